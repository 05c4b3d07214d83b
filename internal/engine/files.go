package engine

import (
	"bytes"
	"os"
)

// localhostOnly is /etc/hosts without a network.
const localhostOnly = `127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
fe00::	ip6-localnet
ff00::	ip6-mcastprefix
ff02::1	ip6-allnodes
ff02::2	ip6-allrouters
`

// writeFiles makes the three files that are bind-mounted over the image's.
func (e *Engine) writeFiles(c *Container) error {
	hosts, resolv := []byte(localhostOnly), []byte(nil)
	if c.HostConfig.NetworkMode == "host" {
		if b, err := os.ReadFile("/etc/hosts"); err == nil {
			hosts = b
		}
	}
	if b, err := os.ReadFile("/etc/resolv.conf"); err == nil {
		resolv = bytes.TrimRight(b, "\n")
		resolv = append(resolv, '\n')
	}
	for name, b := range map[string][]byte{"hosts": hosts, "hostname": []byte(c.Config.Hostname + "\n"), "resolv.conf": resolv} {
		if err := os.WriteFile(e.dir(c.ID, name), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}
