package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"vitro/internal/image"
)

func TestParseBind(t *testing.T) {
	for in, want := range map[string]string{
		"/a:/b":          "bind /a /b true rprivate",
		"/a:/b/../c:ro":  "bind /a /c false rprivate",
		"/a:/b:rslave":   "bind /a /b true rslave",
		"/a:/b:ro,slave": "bind /a /b false slave",
		"vol:/b":         "volume vol /b true ",
		"vol:/b:nocopy":  "volume vol /b true  nocopy",
		"/only":          "volume  /only true ",
		"":               "invalid empty volume spec",
		":/x":            "invalid spec: :/x: empty section between colons",
		"a:/b:ro:c":      "invalid volume specification: 'a:/b:ro:c'",
		"rel":            "invalid volume specification: 'rel': invalid mount config for type \"volume\": invalid mount path: 'rel' mount path must be absolute",
		"/a:/":           "invalid volume specification: '/a:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
		"/a:/b:ro,rw":    "invalid volume specification: '/a:/b:ro,rw': invalid mode: ro,rw",
		"/a:/b:nocopy":   "invalid volume specification: '/a:/b:nocopy': invalid mode: nocopy",
		"vol:/b:z":       "invalid volume specification: 'vol:/b:z': invalid mode: z",
		"v l:/b":         "create v l: \"v l\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path",
	} {
		m, err := parseBind(in)
		got := fmt.Sprintf("%s %s %s %v %s", m.Type, m.Source, m.Destination, m.RW, m.Propagation)
		if m.NoCopy {
			got += " nocopy"
		}
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q:\ngot  %s\nwant %s", in, got, want)
		}
	}
}

func TestTmpfsOptions(t *testing.T) {
	for in, want := range map[string]string{
		"":                      "noexec nosuid nodev",
		"size=1k,exec,mode=700": "nosuid nodev size=1k exec mode=700",
		"ro,noexec":             "nosuid nodev ro noexec",
		"size":                  `invalid tmpfs option ["size"]`,
		"context=x":             `invalid tmpfs option ["context=x"]`,
	} {
		o, err := tmpfsOptions(in)
		got := strings.Join(o, " ")
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func TestExpand(t *testing.T) {
	for in, want := range map[string]string{
		"USER $U":                         "User=bob",
		"USER ${U}x":                      "User=bobx",
		"WORKDIR $HOME/${X:-sub}":         "Dir=/h/sub",
		"WORKDIR /${U:+is}/${X:+not}":     "Dir=/is",
		`ENV P=$HOME/bin:$P Q='$U' R=\$U`: `Env=HOME=/h U=bob P=/h/bin: Q=$U R=$U`,
		"STOPSIGNAL ${X:-USR1}":           "Signal=USR1",
		"USER ${U":                        "USER: syntax error: bad substitution in \"${U\"",
		"USER ${U%x}":                     "USER: unsupported modifier (%x) in substitution",
		"CMD echo $U":                     "Cmd=/bin/sh -c echo $U",
		"HEALTHCHECK NONE":                "Test=[NONE] 0s 0",
		"HEALTHCHECK --interval=5s --retries=3 CMD curl -f $U": "Test=[CMD-SHELL curl -f $U] 5s 3",
		`HEALTHCHECK CMD ["a", "b"]`:                           "Test=[CMD a b] 0s 0",
		"HEALTHCHECK --every=5s CMD x":                         "unknown flag: every",
		"HEALTHCHECK --timeout=x CMD x":                        `HEALTHCHECK --timeout x: time: invalid duration "x"`,
		"HEALTHCHECK CMD":                                      "Missing command after HEALTHCHECK CMD",
		"HEALTHCHECK x":                                        `Unknown type "x" in HEALTHCHECK (try CMD)`,
	} {
		c := image.ContainerConfig{}
		c.Env = []string{"HOME=/h", "U=bob"}
		err := applyInstruction(&c, in)
		got := "Env=" + strings.Join(c.Env, " ")
		switch {
		case err != nil:
			got = err.Error()
		case c.User != "":
			got = "User=" + c.User
		case c.WorkingDir != "":
			got = "Dir=" + c.WorkingDir
		case c.StopSignal != "":
			got = "Signal=" + c.StopSignal
		case c.Cmd != nil:
			got = "Cmd=" + strings.Join(c.Cmd, " ")
		case c.Healthcheck != nil:
			got = fmt.Sprint("Test=", c.Healthcheck.Test, " ", c.Healthcheck.Interval, " ", c.Healthcheck.Retries)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestInstructions(t *testing.T) {
	for in, want := range map[string]string{
		`CMD a "b c"`:                      `Cmd=["/bin/sh" "-c" "a \"b c\""]`,
		`CMD ["a", "b c"]`:                 `Cmd=["a" "b c"]`,
		`CMD`:                              `Cmd=[]`,
		`entrypoint ["a"]`:                 `Entrypoint=["a"]`,
		`ENV A b c`:                        `Env=["A=b c"]`,
		`ENV A="b c" D=e\ f G='h\i'`:       `Env=["A=b c" "D=e f" "G=h\\i"]`,
		`ENV A=1 B`:                        `Syntax error - can't find = in "B". Must be of the form: name=value`,
		`ENV`:                              `ENV requires at least one argument`,
		`ENV A="x`:                         `ENV: unexpected end of statement while looking for matching quote`,
		`WORKDIR a/../b`:                   `WorkingDir="/b"`,
		`USER`:                             `USER requires exactly one argument`,
		`STOPSIGNAL SIGNOPE`:               `invalid signal: SIGNOPE`,
		`ONBUILD ONBUILD RUN x`:            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
		`ONBUILD FROM x`:                   `FROM isn't allowed as an ONBUILD trigger`,
		`EXPOSE 80/icmp`:                   `Invalid proto: icmp`,
		`EXPOSE 0x50`:                      `Invalid containerPort: 0x50`,
		`EXPOSE 80-82/udp`:                 `Ports=["80/udp" "81/udp" "82/udp"]`,
		`VOLUME ["/a b", "/c"]`:            `Volumes=["/a b" "/c"]`,
		`COPY a b`:                         `copy is not a valid change command`,
		`LABEL a=b "c d"=e multi="x=y z" `: `Labels=["a=b" "c d=e" "multi=x=y z"]`,
	} {
		var c image.ContainerConfig
		err := applyInstruction(&c, in)
		got := ""
		switch {
		case err != nil:
			got = err.Error()
		case c.Entrypoint != nil:
			got = fmt.Sprintf("Entrypoint=%q", c.Entrypoint)
		case c.Env != nil:
			got = fmt.Sprintf("Env=%q", c.Env)
		case c.WorkingDir != "":
			got = fmt.Sprintf("WorkingDir=%q", c.WorkingDir)
		case c.ExposedPorts != nil:
			got = fmt.Sprintf("Ports=%q", keys(c.ExposedPorts))
		case c.Volumes != nil:
			got = fmt.Sprintf("Volumes=%q", keys(c.Volumes))
		case c.Labels != nil:
			var l []string
			for k, v := range c.Labels {
				l = append(l, k+"="+v)
			}
			slices.Sort(l)
			got = fmt.Sprintf("Labels=%q", l)
		default:
			got = fmt.Sprintf("Cmd=%q", c.Cmd)
		}
		if got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", in, got, want)
		}
	}
}

func keys(m map[string]struct{}) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
