// Command vitrun is an OCI runtime with runc's command line: create, start, run, exec, state, list, ps, kill, delete, spec,
// features, pause, resume, update, events; and plan, which prints the system calls that a start would make.
//
// It is thin: package runtime does the work. Its start-up time is a part of every container's, so there is no flag package, no fmt,
// no encoding/json and no regexp in it; GODEBUG=inittrace=1 shows what runs before main.
//
// Errors are one line on stderr, and a record in --log, which callers parse: only errors go there unless --debug is given.
// The status is 1 for a failure, 255 for one of exec, 3 for an unknown command, and the process's own for run and exec in the
// foreground.
//
//	vitrun spec && vitrun run c1
package main
