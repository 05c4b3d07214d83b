// Gen builds cmd/hello and packs it as the embedded image: an OCI image layout in a tar archive.
//
//	go run ./internal/hello/gen [-arch amd64] [-dir internal/hello/image]
//
// The output depends on the source, the Go version and the architecture only: no times, no build id, fixed owners.
// Archives of other architectures in the same folder are removed, since go:embed would put all of them into vitro.
package main
