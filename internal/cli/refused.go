package cli

import (
	"errors"

	"github.com/spf13/pflag"
)

// refused is a flag of Docker's that vitro does not have: it is named, not unknown. is, if not empty, is the value that says what
// there is; true or false makes it a switch.
type refused struct{ name, is, why string }

const (
	noBlkio  = "limits of block devices are not"
	noHealth = "health checks are not run"
	noRT     = "real-time scheduling is not"
	noTrust  = "content trust is not"
	windows  = "that is Windows'"
	noSwarm  = "that is swarm's"
)

// refusedOfRun are those of run and create.
var refusedOfRun = []refused{
	{"restart", "no", "there is no daemon that could; systemd can run `vitro run` as a service"},
	{"init", "false", "give the image an init of its own (tini)"},
	{"gpus", "", "give the devices by --device"},
	{"runtime", "vitrun", "the runtime is vitrun"},
	{"isolation", "default", windows},
	{"cpu-count", "0", windows},
	{"cpu-percent", "0", windows},
	{"io-maxbandwidth", "0", windows},
	{"io-maxiops", "0", windows},
	{"storage-opt", "", "the root file system has no limit of its own"},
	{"log-driver", "json-file", "the log is json-file's"},
	{"log-opt", "", "the log is json-file's, and rotates"},
	{"health-cmd", "", noHealth},
	{"health-interval", "0s", noHealth},
	{"health-retries", "0", noHealth},
	{"health-start-interval", "0s", noHealth},
	{"health-start-period", "0s", noHealth},
	{"health-timeout", "0s", noHealth},
	{"no-healthcheck", "true", noHealth},
	{"blkio-weight", "0", noBlkio},
	{"blkio-weight-device", "", noBlkio},
	{"device-read-bps", "", noBlkio},
	{"device-write-bps", "", noBlkio},
	{"device-read-iops", "", noBlkio},
	{"device-write-iops", "", noBlkio},
	{"cpu-rt-period", "0", noRT},
	{"cpu-rt-runtime", "0", noRT},
	{"kernel-memory", "0", "the kernel has no such limit any more"},
	{"link", "", "containers of one network have each other's names"},
	{"link-local-ip", "", "give an address by --ip6"},
	{"volume-driver", "local", "the volumes are local"},
	{"disable-content-trust", "true", noTrust},
}

// refusedOfUpdate are those of update.
var refusedOfUpdate = []refused{
	{"restart", "no", "there is no daemon that could; systemd can run `vitro run` as a service"},
	{"blkio-weight", "0", noBlkio},
	{"cpu-rt-period", "0", noRT},
	{"cpu-rt-runtime", "0", noRT},
	{"kernel-memory", "0", "the kernel has no such limit any more"},
}

// refusedOfNetwork are those of network create.
var refusedOfNetwork = []refused{
	{"config-from", "", "networks are made of their own flags"},
	{"config-only", "false", "networks are made of their own flags"},
	{"ingress", "false", noSwarm},
	{"ipam-driver", "default", "addresses are given by vitro"},
	{"ipam-opt", "", "addresses are given by vitro"},
	{"ipv4", "true", "every network has IPv4 addresses"},
	{"scope", "local", noSwarm},
}

// refuse adds flags that are refused, hidden from help.
func refuse(p *pflag.FlagSet, list ...refused) {
	for _, r := range list {
		p.Var(refusedFlag{r.is, r.why}, r.name, "")
		f := p.Lookup(r.name)
		if f.Hidden = true; r.is == "true" || r.is == "false" {
			f.NoOptDefVal = "true"
		}
	}
}

type refusedFlag struct{ is, why string }

func (refusedFlag) String() string { return "" }
func (refusedFlag) Type() string   { return "value" }

func (r refusedFlag) Set(v string) error {
	if r.is != "" && v == r.is {
		return nil
	}
	return errors.New("not supported: " + r.why)
}
