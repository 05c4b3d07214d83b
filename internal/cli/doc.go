// Package cli is the command line of vitro: Docker's verbs, flags, tables, messages and exit statuses.
//
// A flag of Docker's that is not built is an unknown flag: nothing is accepted and ignored. Exit statuses: 125 for an
// error of vitro or of the command line, 126 and 127 for a program that cannot be run or is not there, 128+n for one that
// signal n ended, else the container's own; verbs other than run and exec fail with 1.
//
// Example:
//
//	os.Exit(cli.Main(ctx, version, os.Args[1:]))
package cli
