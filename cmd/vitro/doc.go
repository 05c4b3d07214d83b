// Command vitro is a container engine with the Docker command line; see package cli. Started under the name
// [engine.MonitorArg0] it is the monitor of one container.
package main
