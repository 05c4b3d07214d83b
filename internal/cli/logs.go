package cli

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vitro/internal/engine"
	"vitro/internal/monitor"
)

func logsCmd(a *app) *cobra.Command {
	var follow, times, details bool
	var tail, since, until string
	cmd := &cobra.Command{
		Use: "logs [OPTIONS] CONTAINER", Short: "Fetch the logs of a container", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			l, err := e.Find(args[0])
			if err != nil {
				return err
			}
			o := monitor.ReadOptions{Tail: -1}
			if tail != "all" {
				if o.Tail, err = strconv.Atoi(tail); err != nil {
					return fmt.Errorf("invalid value for \"tail\": %s", tail)
				}
			}
			for _, t := range []struct {
				name, value string
				to          *time.Time
			}{{"since", since, &o.Since}, {"until", until, &o.Until}} {
				var ok bool
				if *t.to, ok = parseTime(t.value); !ok && t.value != "" {
					return fmt.Errorf("invalid value for %q: %s is neither a time nor a duration", t.name, t.value)
				}
			}
			if follow {
				o.Follow = func() bool {
					l, err := e.Find(l.ID)
					return err == nil && l.Status == engine.Running
				}
			}
			return monitor.ReadLog(e.LogPath(l.ID), o, func(en monitor.Entry) error {
				w := os.Stdout
				if en.Stream == "stderr" {
					w = os.Stderr
				}
				if details { // of which json-file has none without log options
					en.Log = " " + en.Log
				}
				if times {
					en.Log = en.Time.Format("2006-01-02T15:04:05.000000000Z07:00") + " " + en.Log
				}
				_, err := w.WriteString(en.Log)
				return err
			})
		},
	}
	p := cmd.Flags()
	p.BoolVarP(&follow, "follow", "f", false, "Follow log output")
	p.StringVarP(&tail, "tail", "n", "all", "Number of lines to show from the end of the logs")
	p.BoolVarP(&times, "timestamps", "t", false, "Show timestamps")
	p.BoolVar(&details, "details", false, "Show extra details provided to logs")
	p.StringVar(&since, "since", "", `Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)`)
	p.StringVar(&until, "until", "", `Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)`)
	return cmd
}

// parseTime reads a duration before now, a Unix time in seconds with or without a fraction, RFC 3339, or the begin of it in local time.
func parseTime(s string) (time.Time, bool) {
	if d, err := time.ParseDuration(s); err == nil {
		return time.Now().Add(-d), true
	}
	sec, frac, _ := strings.Cut(s, ".")
	if n, err := strconv.ParseInt(sec, 10, 64); err == nil {
		nsec, err := strconv.ParseInt((frac + "000000000")[:9], 10, 64)
		return time.Unix(n, nsec), err == nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02Z07:00", "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
