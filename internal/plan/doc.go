// Package plan holds a container start as data: a flat list of system calls.
package plan
