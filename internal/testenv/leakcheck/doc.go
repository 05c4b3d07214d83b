// Leakcheck runs a command and names what is on the machine afterwards that was not there before and looks like ours.
//
//	go run ./internal/testenv/leakcheck go test ./...
//
// It exits with the command's status. A leak is a failure only with MUST_WORK=1: on a developer's machine somebody
// else may be running containers.
package main
