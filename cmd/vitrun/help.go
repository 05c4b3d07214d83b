package main

import (
	goruntime "runtime"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// version and commit are set by the linker (-X main.version=…).
var (
	version = "0.1.0"
	commit  = "unknown"
)

// versionText: moby reads every line with the word "version" in it, go-runc the first line and the prefixes of the others.
func versionText() string {
	goVersion, _, _ := strings.Cut(goruntime.Version(), "-X:") // how it was built is not of interest
	return "vitrun version " + version + "\ncommit: " + commit + "\nspec: " + specs.Version + "\ngo: " + goVersion + "\n"
}

func mainHelp() string {
	var b strings.Builder
	b.WriteString("NAME:\n   vitrun - OCI runtime: starts a container as a program of system calls\n\n" +
		"USAGE:\n   vitrun [global options] command [command options] [arguments...]\n\n" +
		"VERSION:\n   " + version + "\n\nCOMMANDS:\n")
	var rows [][2]string
	for _, c := range commands() {
		rows = append(rows, [2]string{c.name, c.summary})
	}
	columns(&b, append(rows, [2]string{"help", "show the help of a command"}))
	b.WriteString("\nGLOBAL OPTIONS:\n")
	columns(&b, optionRows(globalOptions()))
	return b.String()
}

func (c *command) help() string {
	var b strings.Builder
	b.WriteString("NAME:\n   vitrun " + c.name + " - " + c.summary + "\n\nUSAGE:\n   vitrun " + c.name)
	opts := c.options()
	if len(opts) > 0 {
		b.WriteString(" [command options]")
	}
	if c.args != "" {
		b.WriteString(" " + c.args)
	}
	b.WriteString("\n")
	if len(opts) > 0 {
		b.WriteString("\nOPTIONS:\n")
		columns(&b, optionRows(opts))
	}
	return b.String()
}

func optionRows(opts []option) (rows [][2]string) {
	for _, o := range opts {
		arg := ""
		if o.arg != "" {
			arg = " " + o.arg
		}
		left := "--" + o.long + arg
		if o.short != "" {
			left += ", -" + o.short + arg
		}
		rows = append(rows, [2]string{left, o.usage})
	}
	return rows
}

func columns(b *strings.Builder, rows [][2]string) {
	width := 0
	for _, r := range rows {
		width = max(width, len(r[0]))
	}
	for _, r := range rows {
		b.WriteString("   " + r[0] + strings.Repeat(" ", width-len(r[0])+2) + r[1] + "\n")
	}
}

func helpCommand(args []string) (int, error) {
	if len(args) == 0 {
		return 0, print(mainHelp())
	}
	c := findCommand(args[0])
	if c == nil {
		return 3, &exitError{usageError("No help topic for '" + args[0] + "'"), 3}
	}
	return 0, print(c.help())
}
