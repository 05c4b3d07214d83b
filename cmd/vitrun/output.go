package main

import (
	"strconv"
	"strings"
	"syscall"

	"vitro/internal/boot"
	"vitro/internal/runtime"
	"vitro/internal/spec/jsonx"
	"vitro/internal/sys"
)

const errFormat = usageError("invalid format option")

// stdout is fd 1 as an io.Writer, without os.Stdout's poller.
type stdout struct{}

func (stdout) Write(p []byte) (int, error) { return len(p), put(p) }

// put writes to fd 1. When its reader has seen enough, the end is as quiet as SIGPIPE's.
func put(p []byte) error {
	err := sys.WriteAll(1, p)
	if err == syscall.EPIPE {
		syscall.Exit(128 + int(syscall.SIGPIPE))
	}
	return err
}

func geteuid() int { return syscall.Geteuid() }
func getegid() int { return syscall.Getegid() }

// writeNew writes a file that is not there yet.
func writeNew(path string, content []byte) error {
	fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL|syscall.O_CLOEXEC, 0o666)
	if err == syscall.EEXIST {
		return usageError("File " + path + " exists. Remove it first")
	}
	if err == nil {
		err = sys.WriteAll(fd, content)
		syscall.Close(fd)
	}
	if err != nil {
		return usageError("write " + path + ": " + err.Error())
	}
	return nil
}

// writeState writes the fields of state and list, in runc's order.
func writeState(w *jsonx.Writer, s *runtime.State) {
	w.BeginObject()
	str := func(k, v string) { w.Key(k); w.String(v) }
	str("ociVersion", s.Version)
	str("id", s.ID)
	w.Key("pid")
	w.Int(int64(s.Pid))
	str("status", string(s.Status))
	str("bundle", s.Bundle)
	str("rootfs", s.Rootfs)
	str("created", s.Created)
	if len(s.Annotations) > 0 {
		w.Key("annotations")
		w.BeginObject()
		for _, k := range sortedKeys(s.Annotations) {
			str(k, s.Annotations[k])
		}
		w.EndObject()
	}
	str("owner", s.Owner)
	w.EndObject()
}

func sortedKeys[T any](m map[string]T) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		i := len(keys)
		for i > 0 && keys[i-1] > k {
			i--
		}
		keys = append(keys, "")
		copy(keys[i+1:], keys[i:])
		keys[i] = k
	}
	return keys
}

func (a *app) state(args []string) (int, error) {
	s, err := a.runtime().State(args[0])
	if err != nil {
		return 1, err
	}
	w := jsonx.Writer{Indent: "  "}
	writeState(&w, s)
	w.Line()
	return 0, put(w.Bytes())
}

func (a *app) list([]string) (int, error) {
	if a.format != "" && a.format != "table" && a.format != "json" {
		return 1, errFormat
	}
	all, err := a.runtime().List()
	if err != nil {
		return 1, err
	}
	switch {
	case a.quiet:
		var b strings.Builder
		for _, s := range all {
			b.WriteString(s.ID + "\n")
		}
		return 0, print(b.String())
	case a.format == "json":
		return 0, put(listJSON(all))
	}
	rows := [][]string{{"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"}}
	for _, s := range all {
		rows = append(rows, []string{s.ID, strconv.Itoa(s.Pid), string(s.Status), s.Bundle, s.Created, s.Owner})
	}
	return 0, print(table(rows))
}

func listJSON(all []*runtime.State) []byte {
	var w jsonx.Writer
	if all == nil {
		w.Null() // as runc has it
	} else {
		w.BeginArray()
		for _, s := range all {
			writeState(&w, s)
		}
		w.EndArray()
	}
	w.Line()
	return w.Bytes()
}

// table pads columns as runc's tabwriter does: 12 wide at least, 3 blanks between.
func table(rows [][]string) string {
	width := make([]int, len(rows[0]))
	for c := range width {
		width[c] = 12
		for _, r := range rows {
			width[c] = max(width[c], len(r[c])+3)
		}
	}
	var b strings.Builder
	for _, r := range rows {
		for c, cell := range r {
			b.WriteString(cell)
			if c < len(r)-1 {
				b.WriteString(strings.Repeat(" ", width[c]-len(cell)))
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

func (a *app) ps(args []string) (int, error) {
	pids, err := a.runtime().PS(args[0])
	if err != nil {
		return 1, err
	}
	switch a.format {
	case "json":
		var w jsonx.Writer
		w.BeginArray()
		for _, p := range pids {
			w.Int(int64(p))
		}
		w.EndArray()
		w.Line()
		return 0, put(w.Bytes())
	case "", "table":
	default:
		return 1, errFormat
	}
	opts := args[1:]
	if len(opts) == 0 {
		opts = []string{"-ef"}
	}
	out, err := psOutput(opts)
	if err != nil {
		return 1, err
	}
	text, err := filterPS(out, pids)
	if err != nil {
		return 1, err
	}
	return 0, print(text)
}

// filterPS keeps the heading of ps's output and the lines of pids.
func filterPS(out string, pids []int) (string, error) {
	heading, rest, _ := strings.Cut(out, "\n")
	column := -1
	for i, f := range strings.Fields(heading) {
		if f == "PID" {
			column = i
		}
	}
	if column < 0 {
		return "", usageError("couldn't find PID field in ps output")
	}
	var b strings.Builder
	b.WriteString(heading + "\n")
	for _, line := range strings.Split(rest, "\n") {
		f := strings.Fields(line)
		if len(f) <= column {
			continue
		}
		pid, err := strconv.Atoi(f[column])
		if err != nil {
			return "", usageError("unable to parse pid: " + f[column])
		}
		for _, p := range pids {
			if p == pid {
				b.WriteString(line + "\n")
			}
		}
	}
	return b.String(), nil
}

// psOutput runs ps(1) of the host.
func psOutput(opts []string) (string, error) {
	path := sys.LookPath("ps")
	if path == "" {
		return "", usageError("ps: not in $PATH (--format json needs no ps)")
	}
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC); err != nil {
		return "", usageError("pipe: " + err.Error())
	}
	boot.OwnSlack()
	pid, err := syscall.ForkExec(path, append([]string{"ps"}, opts...), &syscall.ProcAttr{
		Env: boot.Environ(), Files: []uintptr{0, uintptr(p[1]), 2},
	})
	syscall.Close(p[1])
	defer syscall.Close(p[0])
	if err != nil {
		return "", usageError(path + ": " + err.Error())
	}
	out, err := sys.ReadFD(p[0])
	var st syscall.WaitStatus
	if _, werr := syscall.Wait4(pid, &st, 0, nil); err == nil {
		err = werr
	}
	if err == nil && st.ExitStatus() != 0 {
		err = usageError("exit status " + strconv.Itoa(st.ExitStatus()))
	}
	if err != nil {
		return "", usageError(path + ": " + err.Error())
	}
	return string(out), nil
}
