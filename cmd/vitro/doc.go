// Vitro is a container engine with the Docker command line; see `vitro --help`.
package main
