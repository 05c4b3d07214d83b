// Tour runs the commands of docs/tour.md as written and compares what they print with what the file shows.
//
//	go run ./test/tour [-update] [-step N] [-v] [FILE]
//
// A command is a line "$ …" of a fenced block whose first word is console; lines that start with "> " continue it, and the
// lines up to the next command are its output, standard error included. All commands run in one bash, in this folder, with
// the built programs first in PATH. The file itself makes its scratch folder and all else before the first step, and
// takes it away under "## Clean up", which is run whatever happened before (in a new bash, if a command did not end). If what stands before the first step does not
// hold (the folder is there: another tour is under way), nothing more is run.
//
// What differs from run to run may differ in the comparison: ids, digests, inodes of namespaces, links, times, sizes, and
// numbers of three to nine digits, if they stand in no command of the step (mask.go). Ids, inodes and links that
// are the same word twice in a block of the file must be the same word twice in the output: so two tools agree.
// A line "…" in the file stands for any number of lines, "…" inside a line for any text.
//
// After console the fence may say where it holds and how to compare: v1 (a machine with v1 controllers, hybrid too) or v2 (pure
// v2) has:PATH (a machine with that file), since:6.8 or before:6.8 (its kernel), and numbers (every number may differ). -update writes what was printed into the file, where it did not hold.
package main
