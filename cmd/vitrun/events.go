package main

import (
	"time"

	"vitro/internal/cgroup"
	"vitro/internal/runtime"
	"vitro/internal/spec/jsonx"
)

func eventsOptions() []option {
	return []option{
		{"interval", "", "value", "time between two readings (default: 5s)", optInterval},
		{"stats", "", "", "print one reading and end", func(v *values, s string) error { v.stats = s != ""; return nil }},
	}
}

func optInterval(v *values, s string) error {
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return usageError("not a duration above 0")
	}
	v.interval = d
	return nil
}

// look is how often the count of OOM kills is read between two readings of all.
const look = 250 * time.Millisecond

// events prints a line per reading, and one when the kernel has killed a process for want of memory, until the container ends.
func (a *app) events(args []string) (int, error) {
	r := a.runtime()
	st, err := r.Stats(args[0])
	if err != nil {
		return 1, err
	}
	if a.stats {
		return 0, writeEvent("stats", args[0], st)
	}
	if a.interval == 0 {
		a.interval = 5 * time.Second
	}
	kills := st.Memory.OOMKills
	for next := time.Now(); ; {
		if st.Memory.OOMKills > kills {
			if err := writeEvent("oom", args[0], nil); err != nil {
				return 1, err
			}
			kills = st.Memory.OOMKills
		}
		if !time.Now().Before(next) {
			if err := writeEvent("stats", args[0], st); err != nil {
				return 1, err
			}
			next = time.Now().Add(a.interval)
		}
		time.Sleep(min(look, time.Until(next)))
		switch st, err = r.Stats(args[0]); err {
		case nil:
		case error(runtime.ErrNotRunning), error(runtime.ErrNotExist):
			return 0, nil
		default:
			return 1, err
		}
	}
}

// writeEvent prints one event in runc's form.
func writeEvent(kind, id string, st *cgroup.Stats) error {
	var w jsonx.Writer
	w.BeginObject()
	w.Key("type")
	w.String(kind)
	w.Key("id")
	w.String(id)
	if st != nil {
		w.Key("data")
		writeStats(&w, st)
	}
	w.EndObject()
	w.Line()
	return put(w.Bytes())
}

func writeStats(w *jsonx.Writer, st *cgroup.Stats) {
	object := func(name string, f func()) { w.Key(name); w.BeginObject(); f(); w.EndObject() }
	number := func(name string, n uint64) { w.Key(name); w.Uint(n) }
	entry := func(name string, limit, usage, most, failures uint64) {
		object(name, func() {
			number("limit", limit)
			number("usage", usage)
			number("max", most)
			number("failcnt", failures)
		})
	}
	w.BeginObject()
	object("cpu", func() {
		object("usage", func() {
			number("total", st.CPU.Total)
			if len(st.CPU.PerCPU) > 0 {
				w.Key("percpu")
				w.BeginArray()
				for _, n := range st.CPU.PerCPU {
					w.Uint(n)
				}
				w.EndArray()
			}
			number("kernel", st.CPU.Kernel)
			number("user", st.CPU.User)
		})
		object("throttling", func() {
			number("periods", st.CPU.Periods)
			number("throttledPeriods", st.CPU.Throttled)
			number("throttledTime", st.CPU.ThrottledTime)
		})
	})
	object("memory", func() {
		m := &st.Memory
		number("cache", m.Cache)
		entry("usage", m.Limit, m.Usage, m.Max, m.Failures)
		entry("swap", m.SwapLimit, m.Swap, 0, 0)
		object("raw", func() {
			for _, k := range sortedKeys(m.Raw) {
				number(k, m.Raw[k])
			}
		})
	})
	object("pids", func() {
		number("current", st.Pids.Current)
		if st.Pids.Limit != cgroup.NoLimit {
			number("limit", st.Pids.Limit)
		}
	})
	object("blkio", func() {
		w.Key("ioServiceBytesRecursive")
		w.BeginArray()
		for _, e := range st.IO {
			writeIO(w, e, "Read", e.Read)
			writeIO(w, e, "Write", e.Write)
		}
		w.EndArray()
	})
	w.EndObject()
}

func writeIO(w *jsonx.Writer, e cgroup.IOStats, op string, n uint64) {
	w.BeginObject()
	w.Key("major")
	w.Uint(e.Major)
	w.Key("minor")
	w.Uint(e.Minor)
	w.Key("op")
	w.String(op)
	w.Key("value")
	w.Uint(n)
	w.EndObject()
}
