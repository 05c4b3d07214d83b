// Package monitor is the parent process of a container: it owns the terminal or the pipes, writes the log, serves clients
// that attach, and waits for the end. One small process a container, which outlives the command that started it; or that
// command itself (Config.Here).
//
// A client gives the monitor its own standard output and error (SCM_RIGHTS on a SOCK_SEQPACKET socket, unix(7)) and gets
// the container's input in return: the terminal's master or the write end of a pipe. So no byte passes through a third
// process: the monitor writes to the log and to the clients' files; the client writes input and sets the window size by
// itself. The connection lasts as long as the client is attached; the last message on it is the exit status.
//
// The log is Docker's json-file format: one {"log":"line\n","stream":"stdout","time":"…"} a line, a line longer than
// 16 KiB in parts of which only the last ends in a newline; the file is rotated at 10 MB and two old ones are kept.
//
// A client that does not read holds the container up, as a terminal does with Ctrl-S, but not its end: what is left then
// waits in the monitor, without its lock, until the client reads or goes, or for a second if the container was killed.
// A client that goes away holds nothing up. If the reader of the starter's output goes away (| head -1), the container
// gets EPIPE as any writer does.
//
// Example, the client's side:
//
//	c, err := monitor.NewClient(conn)
//	err = c.Send(monitor.Request{Attach: true}, os.Stdout, os.Stderr)
//	for { m, err := c.Next(); … }
package monitor
