package main

import "strconv"

// command is one verb. args tells what follows the flags; max -1 is any number.
type command struct {
	name, summary, args string
	min, max            int
	reorder             bool // flags may come after arguments
	options             func() []option
	run                 func(a *app, args []string) (int, error)
}

const id = "<container-id>"

func commands() []command {
	return []command{
		{"create", "create a container", id, 1, 1, true, createOptions, (*app).create},
		{"delete", "delete what a container holds", id, 1, 1, true, deleteOptions, (*app).delete},
		{"events", "print what a container uses, and when it runs out of memory, as JSON", id, 1, 1, true, eventsOptions, (*app).events},
		{"exec", "execute a new process inside a container", id + " <command> [arguments...]", 1, -1, false, execOptions, (*app).exec},
		{"features", "show the enabled features as JSON", "", 0, 0, true, noOptions, (*app).features},
		{"kill", "send a signal (default: SIGTERM) to a container's init process", id + " [signal]", 1, 2, true, killOptions, (*app).kill},
		{"list", "list containers", "", 0, 0, true, listOptions, (*app).list},
		{"pause", "suspend all processes of a container", id, 1, 1, true, noOptions, (*app).pause},
		{"plan", "print the system calls that would start a bundle, and start nothing", "[bundle]", 0, 1, true, planOptions, (*app).plan},
		{"ps", "list the processes of a container", id + " [ps options]", 1, -1, false, psOptions, (*app).ps},
		{"resume", "let a paused container go on", id, 1, 1, true, noOptions, (*app).resume},
		{"run", "create and run a container", id, 1, 1, true, runOptions, (*app).runCommand},
		{"spec", "write a config.json to start from", "", 0, 0, true, specOptions, (*app).spec},
		{"start", "execute the user's process in a created container", id, 1, 1, true, noOptions, (*app).start},
		{"state", "print the state of a container as JSON", id, 1, 1, true, noOptions, (*app).state},
		{"update", "change the limits of a container", id, 1, 1, true, updateOptions, (*app).updateCommand},
	}
}

func findCommand(name string) *command {
	for _, c := range commands() {
		if c.name == name {
			return &c
		}
	}
	return nil
}

// check holds the number of arguments to the command's, in runc's words.
func (c *command) check(args []string) error {
	what := ""
	switch n := len(args); {
	case c.min == c.max && n != c.min:
		what = "exactly " + strconv.Itoa(c.min)
	case n < c.min:
		what = "a minimum of " + strconv.Itoa(c.min)
	case c.max >= 0 && n > c.max:
		what = "a maximum of " + strconv.Itoa(c.max)
	default:
		return nil
	}
	return usageError(`vitrun: "` + c.name + `" requires ` + what + ` argument(s)`)
}

func globalOptions() []option {
	return []option{
		{"debug", "", "", "log warnings, too", func(v *values, s string) error { v.debug = s != ""; return nil }},
		{"log", "", "value", "file to append errors to (default: only stderr)", func(v *values, s string) error { v.log = s; return nil }},
		{"log-format", "", "value", "text or json (default: text)", func(v *values, s string) error { v.logFormat = s; return nil }},
		{"root", "", "value", "folder of the containers' state, best on a tmpfs (default: /run/vitrun; $XDG_RUNTIME_DIR/vitrun without privileges)", func(v *values, s string) error { v.root = s; return nil }},
		{"systemd-cgroup", "", "", "not supported yet", refuse},
		{"rootless", "", "value", "true, false or auto (default: auto; true and false are not supported yet)", optRootless},
		{"help", "h", "", "show help", func(v *values, s string) error { v.help = s != ""; return nil }},
		{"version", "v", "", "print the version", func(v *values, s string) error { v.version = s != ""; return nil }},
	}
}

func optRootless(_ *values, s string) error {
	if s != "auto" {
		return usageError("not supported yet")
	}
	return nil
}

func optFormat(v *values, s string) error { v.format = s; return nil }

var (
	bundleOption   = option{"bundle", "b", "value", "folder with config.json (default: the current folder)", func(v *values, s string) error { v.bundle = s; return nil }}
	consoleOption  = option{"console-socket", "", "value", "unix socket that receives the terminal's master", func(v *values, s string) error { v.consoleSocket = s; return nil }}
	pidFileOption  = option{"pid-file", "", "value", "file to write the process id to", func(v *values, s string) error { v.pidFile = s; return nil }}
	detachOption   = option{"detach", "d", "", "return when the process runs", func(v *values, s string) error { v.detach = s != ""; return nil }}
	preserveOption = option{"preserve-fds", "", "value", "pass N more files (stdio + $LISTEN_FDS + N in total) (default: 0)", func(v *values, s string) error { return setInt(&v.preserveFDs, s) }}
	formatOption   = option{"format", "f", "value", "table or json (default: table)", optFormat}
)

func noOptions() []option { return nil }

func createOptions() []option {
	return []option{
		bundleOption, consoleOption, pidFileOption,
		{"no-pivot", "", "", "move the root filesystem to / and chroot, in place of pivot_root: for a root filesystem on a ramdisk", func(v *values, s string) error { v.noPivot = s != ""; return nil }},
		{"no-new-keyring", "", "", "keep the caller's session keyring", func(v *values, s string) error { v.noNewKeyring = s != ""; return nil }},
		preserveOption,
	}
}

func runOptions() []option {
	return append(createOptions(), detachOption,
		option{"keep", "", "", "do not delete the container after it exits", func(v *values, s string) error { v.keep = s != ""; return nil }},
		option{"no-subreaper", "", "", "do not adopt the container's orphans", func(v *values, s string) error { v.noSubreaper = s != ""; return nil }},
	)
}

func execOptions() []option {
	return []option{
		consoleOption,
		{"cwd", "", "value", "working directory in the container", func(v *values, s string) error { v.cwd = s; return nil }},
		{"env", "e", "value", "set an environment variable (repeatable)", func(v *values, s string) error { v.env = append(v.env, s); return nil }},
		{"tty", "t", "", "allocate a terminal", func(v *values, s string) error { v.tty = s != ""; return nil }},
		{"user", "u", "value", "<uid>[:<gid>]", func(v *values, s string) error { v.user = s; return nil }},
		{"additional-gids", "g", "value", "one more group (repeatable)", optGID},
		{"process", "p", "value", "file with the process as JSON", func(v *values, s string) error { v.process = s; return nil }},
		detachOption, pidFileOption,
		{"process-label", "", "value", "not supported yet", refuse},
		{"apparmor", "", "value", "AppArmor profile of the process", func(v *values, s string) error { v.appArmor = s; return nil }},
		{"no-new-privs", "", "", "set no_new_privs", func(v *values, s string) error { v.noNewPrivs = s != ""; return nil }},
		{"cap", "c", "value", "one more capability (repeatable)", func(v *values, s string) error { v.caps = append(v.caps, s); return nil }},
		preserveOption,
		{"cgroup", "", "value", "an existing cgroup below the container's: [<controller>[,<controller>...]:]<path>", func(v *values, s string) error { v.cgroup = s; return nil }},
		{"ignore-paused", "", "", "allow exec in a paused container", func(v *values, s string) error { v.ignorePaused = s != ""; return nil }},
	}
}

func optGID(v *values, s string) error {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return usageError("not a gid")
	}
	v.gids = append(v.gids, uint32(n))
	return nil
}

func killOptions() []option {
	return []option{{"all", "a", "", "signal every process of the container", func(v *values, s string) error { v.all = s != ""; return nil }}}
}

func deleteOptions() []option {
	return []option{{"force", "f", "", "kill it first if it runs (SIGKILL); a missing container is no error", func(v *values, s string) error { v.force = s != ""; return nil }}}
}

func listOptions() []option {
	return []option{
		formatOption,
		{"quiet", "q", "", "print ids only", func(v *values, s string) error { v.quiet = s != ""; return nil }},
	}
}

func psOptions() []option { return []option{formatOption} }

func planOptions() []option {
	return []option{
		bundleOption,
		{"format", "f", "value", "text or json (default: text)", optFormat},
		createOptions()[3],
	}
}

func specOptions() []option {
	return []option{
		{"bundle", "b", "value", "folder to write to (default: the current folder)", func(v *values, s string) error { v.bundle = s; return nil }},
		{"rootless", "", "", "for a container without privileges", func(v *values, s string) error { v.rootlessSpec = s != ""; return nil }},
	}
}
