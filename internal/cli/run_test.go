package cli

import (
	"testing"

	"github.com/spf13/cobra"
)

func TestLimitFlags(t *testing.T) {
	for _, c := range [][2]string{
		{"--memory=512k", ""},
		{"--memory=0", ""},
		{"--memory=-1", `invalid argument "-1" for "-m, --memory" flag: invalid size: '-1'`},
		{"--memory=x", `invalid argument "x" for "-m, --memory" flag: invalid size: 'x'`},
		{"--memory-swap=-1", ""},
		{"--memory-swap=-2", `invalid argument "-2" for "--memory-swap" flag: invalid size: '-2'`},
		{"--cpus=1.5", ""},
		{"--cpus=x", `invalid argument "x" for "--cpus" flag: failed to parse x as a rational number`},
		{"--cpus=1e-999999999", `invalid argument "1e-999999999" for "--cpus" flag: failed to parse 1e-999999999 as a rational number`},
		{"--cpus=0.0000000001", `invalid argument "0.0000000001" for "--cpus" flag: value is too precise`},
		{"--pids-limit=x", `invalid argument "x" for "--pids-limit" flag: strconv.ParseInt: parsing "x": invalid syntax`},
	} {
		cmd := runCmd(&app{})
		cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return err })
		got := ""
		if err := cmd.ParseFlags([]string{c[0]}); err != nil {
			got = err.Error()
		}
		if got != c[1] {
			t.Errorf("%s: %q, want %q", c[0], got, c[1])
		}
	}
}
