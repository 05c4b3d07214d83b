// Command vitro is a container engine with the Docker command line; see package cli. Started under the name
// [engine.MonitorArg0] it is the monitor of one container. Linked with -E vitro/internal/boot.Entry it starts with one
// processor and a slow timer, which suits `run`; what has more to do asks for more processors (package cli).
package main
