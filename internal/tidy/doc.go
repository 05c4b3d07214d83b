// Package tidy has no code but tests: they hold what a compiler and a linter do not.
//
// deps_test.go has the layers of the design as data: an import goes down only. tidy_test.go looks at every tracked
// file: package comments, leftover marks, large files, long functions, formatting. To allow an exception, add it to
// the table it belongs to, with the reason; a long function says it in place:
//
//	//tidy:long one case per operation, no logic between them
//	func (p *printer) op(o Op) { …
package tidy
