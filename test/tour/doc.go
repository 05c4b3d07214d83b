// Tour runs the commands of docs/tour.md as written and compares what they print with what the file shows.
//
//	go run ./test/tour [-update] [-step N] [-v] [FILE]
//
// A command is a line "$ …" of a fenced block whose first word is console; lines that start with "> " continue it, and the
// lines up to the next command are its output, standard error included. All commands run in one bash, in a fresh folder, with
// the built programs first in PATH, so that a reader who types them has the same variables and the same folder.
//
// What differs from run to run is masked on both sides before the comparison: container ids, digests, inode numbers of
// namespaces, pids, times, sizes (masks in mask.go). A line "…" in the file stands for any number of lines, "…" inside a line for any text.
//
// After console the fence may say where it holds and how to compare: v1 (a machine with v1 controllers, hybrid too) or v2 (pure
// v2), and numbers (every number is masked). -update writes what was printed into the file.
package main
