package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"vitro/internal/cgroup"
	"vitro/internal/runtime"
	"vitro/internal/spec/jsonx"
	"vitro/internal/sys"
)

// app is one call of vitrun.
type app struct {
	values
	cmd   *command
	logFD int  // of --log, -1 for none
	usage bool // the command line was wrong
}

func main() {
	a := &app{logFD: -1}
	code, err := a.dispatch(os.Args[1:])
	if err != nil {
		a.fatal(err)
	}
	syscall.Exit(code)
}

func (a *app) dispatch(args []string) (int, error) {
	rest, err := a.parse(globalOptions(), args, false)
	switch {
	case err != nil:
		return 1, err
	case a.version:
		return 0, print(versionText())
	case a.help || len(rest) == 0:
		return 0, print(mainHelp())
	case rest[0] == "help" || rest[0] == "h":
		return helpCommand(rest[1:])
	}
	if err := a.openLog(); err != nil {
		return 1, err
	}
	if a.cmd = findCommand(rest[0]); a.cmd == nil {
		return 3, &exitError{usageError("No help topic for '" + rest[0] + "'"), 3}
	}
	args, err = a.parse(a.cmd.options(), rest[1:], a.cmd.reorder)
	if err == errHelp {
		return 0, print(a.cmd.help())
	}
	if err == nil {
		err = a.cmd.check(args)
	}
	if err != nil {
		a.usage = true
		return 1, err
	}
	return a.cmd.run(a, args)
}

// exitError has an exit status other than 1.
type exitError struct {
	error
	code int
}

// Unwrap is the error itself.
func (e *exitError) Unwrap() error { return e.error }

// openLog opens --log for appending: several runtimes and their callers share the file.
func (a *app) openLog() error {
	switch a.logFormat {
	case "", "text", "json":
	default:
		return usageError("invalid log-format: " + a.logFormat)
	}
	if a.log == "" {
		return nil
	}
	fd, err := syscall.Open(a.log, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_APPEND|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return usageError("--log: open " + a.log + ": " + err.Error())
	}
	a.logFD = fd
	return nil
}

// fatal reports err to --log and to stderr, in one write each, and ends the process.
func (a *app) fatal(err error) {
	code := 1
	if e, ok := err.(*exitError); ok {
		code = e.code
	}
	msg := err.Error()
	if a.logFD >= 0 {
		_ = sys.WriteAll(a.logFD, a.record("error", msg))
	}
	line := oneLine(msg) + "\n"
	if !strings.HasPrefix(msg, "vitrun") {
		line = "vitrun: " + line
	}
	if a.usage {
		line += "See 'vitrun " + a.cmd.name + " --help'.\n"
	}
	_ = sys.WriteAll(2, []byte(line))
	syscall.Exit(code)
}

// oneLine writes control characters as Go does: names and arguments are anybody's, and stderr may be a terminal.
func oneLine(msg string) string {
	var b []byte
	for i := range len(msg) {
		switch c := msg[i]; {
		case c < ' ' || c == 0x7f:
			if b == nil {
				b = append(make([]byte, 0, len(msg)+16), msg[:i]...)
			}
			q := strconv.Quote(msg[i : i+1])
			b = append(b, q[1:len(q)-1]...)
		case b != nil:
			b = append(b, c)
		}
	}
	if b == nil {
		return msg
	}
	return string(b)
}

// record is one line of --log, as logrus writes it: callers parse it.
func (a *app) record(level, msg string) []byte {
	now := time.Now().UTC().Format(time.RFC3339)
	if a.logFormat != "json" {
		return []byte(`time="` + now + `" level=` + level + ` msg=` + strconv.Quote(msg) + "\n")
	}
	var w jsonx.Writer
	w.BeginObject()
	for _, f := range [...][2]string{{"level", level}, {"msg", msg}, {"time", now}} {
		w.Key(f[0])
		w.String(f[1])
	}
	w.EndObject()
	w.Line()
	return w.Bytes()
}

// note takes what is no error. It goes to stderr; to --log only with --debug, since callers read that file as one error (podman).
func (a *app) note(level, msg string) {
	if a.logFD >= 0 {
		if a.debug {
			_ = sys.WriteAll(a.logFD, a.record(level, msg))
		}
		return
	}
	_ = sys.WriteAll(2, []byte("vitrun: "+level+": "+oneLine(msg)+"\n"))
}

// runtime is the folder of containers that --root names.
func (a *app) runtime() *runtime.Runtime {
	root := a.root
	if root == "" {
		root = "/run/vitrun"
		if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" && (syscall.Geteuid() != 0 || mappedRoot()) {
			root = dir + "/vitrun"
		}
	}
	return &runtime.Runtime{Root: root, Log: a.note, Debug: a.debug}
}

// mappedRoot tells whether this is the root of a user namespace that an unprivileged user has made (rootless podman), as runc does.
func mappedRoot() bool {
	var st syscall.Stat_t
	return syscall.Stat("/proc/self/ns/user", &st) == nil && st.Ino != cgroup.InitUserNS && os.Getenv("USER") != "root"
}

func print(s string) error { return put([]byte(s)) }
