package main

import "os"

const usage = `usage: hello [--json]        report what this container is
       hello echo [WORD…]    print the words
       hello env             print the environment
       hello id              print user, group and groups
       hello cat FILE…       print files
       hello write FILE TEXT write TEXT and a newline to FILE
       hello exit N          exit with status N
       hello sleep SECONDS   sleep; SIGTERM and SIGINT end it with 128+n
       hello spin            use one CPU until SIGTERM or SIGINT
       hello eat BYTES       allocate and touch memory (suffixes k, m, g)
`

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if len(args) == 0 {
		return write(renderText(collect(), isTerminal(1), width(1)))
	}
	switch name, rest := args[0], args[1:]; name {
	case "--json":
		if len(rest) == 0 {
			return write(append(appendJSON(nil, collect().json(), 0), '\n'))
		}
	case "-h", "--help", "help":
		return write([]byte(usage))
	default:
		for _, t := range tools {
			if t.name == name && len(rest) >= t.min && (t.max < 0 || len(rest) <= t.max) {
				return t.run(rest)
			}
		}
	}
	os.Stderr.WriteString(usage)
	return 2
}

func write(b []byte) int {
	if _, err := os.Stdout.Write(b); err != nil {
		return fail(err)
	}
	return 0
}

func fail(err error) int {
	os.Stderr.WriteString("hello: " + err.Error() + "\n")
	return 1
}
