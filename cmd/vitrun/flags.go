package main

import (
	"strconv"
	"time"
)

// values are the options of all commands.
type values struct {
	root, log, logFormat string
	debug, help, version bool

	bundle, pidFile, consoleSocket               string
	detach, keep, noPivot, noNewKeyring          bool
	noSubreaper, all, force, quiet, rootlessSpec bool
	preserveFDs                                  int
	format                                       string

	env, caps                  []string
	gids                       []uint32
	cwd, user, process, cgroup string
	appArmor                   string
	tty, noNewPrivs            bool
	ignorePaused               bool

	update   resources
	stats    bool
	interval time.Duration
}

// option is one flag. arg is the name of its value in the help, "" for a switch.
type option struct {
	long, short, arg, usage string
	set                     func(v *values, s string) error
}

type usageError string

func (e usageError) Error() string { return string(e) }

// errHelp asks for the help of the command.
const errHelp = usageError("help")

// parse reads flags as Go's flag package has them (-x, --x, --x=y, --x y). It stops at the first argument that is not a flag;
// with reorder flags may come after arguments, too, as in runc's commands other than exec and ps.
func (v *values) parse(opts []option, args []string, reorder bool) (rest []string, err error) {
	for len(args) > 0 {
		a := args[0]
		switch {
		case a == "--":
			return append(rest, args[1:]...), nil
		case len(a) < 2 || a[0] != '-':
			if !reorder {
				return append(rest, args...), nil
			}
			rest, args = append(rest, a), args[1:]
			continue
		}
		name, value, has := splitFlag(a)
		args = args[1:]
		o := find(opts, name)
		switch {
		case o == nil && (name == "help" || name == "h"):
			return nil, errHelp
		case o == nil:
			return nil, usageError("flag provided but not defined: -" + name)
		case o.arg == "":
			value, has = truth(value, has)
			if !has {
				return nil, usageError("invalid boolean value for -" + name)
			}
		case !has && len(args) == 0:
			return nil, usageError("flag needs an argument: -" + name)
		case !has:
			value, args = args[0], args[1:]
		}
		if err := o.set(v, value); err != nil {
			return nil, usageError("invalid value " + strconv.Quote(value) + " for flag -" + name + ": " + err.Error())
		}
	}
	return rest, nil
}

// splitFlag takes --name=value apart.
func splitFlag(a string) (name, value string, has bool) {
	name = a[1:]
	if name[0] == '-' {
		name = name[1:]
	}
	for i := range len(name) {
		if name[i] == '=' {
			return name[:i], name[i+1:], true
		}
	}
	return name, "", false
}

func find(opts []option, name string) *option {
	for i := range opts {
		if name != "" && (opts[i].long == name || opts[i].short == name) {
			return &opts[i]
		}
	}
	return nil
}

// truth is the value of a switch: "1" or "".
func truth(value string, has bool) (string, bool) {
	if !has {
		return "1", true
	}
	b, err := strconv.ParseBool(value)
	if !b {
		return "", err == nil
	}
	return "1", err == nil
}

func setInt(to *int, s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return usageError("not a count")
	}
	*to = n
	return nil
}

// refuse is the setter of a flag that vitrun does not have yet: it is never accepted and forgotten.
func refuse(_ *values, s string) error {
	if s == "" {
		return nil // --x=false
	}
	return usageError("not supported yet")
}
