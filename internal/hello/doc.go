// Package hello holds the embedded image "hello": an OCI image layout in a tar archive, with the one program cmd/hello.
//
// It is what `make run` starts on a machine that has nothing but Go and a Linux kernel. The archive is not in the
// repository: the Makefile makes it with
//
//	go run ./internal/hello/gen -arch amd64
//
// which writes image/hello-amd64.tar (git-ignored, byte for byte the same for the same source and Go version). A
// plain `go build ./...` or `go vet ./...` works without it: the folder image/ has a committed README, so the embed
// pattern matches, and Image says what is missing.
//
// Format: image-layout.md and layer.md of the OCI image specification. Example:
//
//	r, size, err := hello.Image()
//	if err != nil { … }
//	err = store.Load(ctx, r)        // the reference is hello.Name
package hello
