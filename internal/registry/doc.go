// Package registry pulls and pushes images over the OCI distribution protocol (distribution-spec 1.1, Docker Registry HTTP API V2)
// into a store and out of it. oras-go speaks the protocol and the two kinds of authentication; this package adds platform choice, retry
// with resume, and progress.
//
// Life cycle of a pull: manifest or index (by digest when the reference has one) → the platform's manifest → config →
// store.Import, which asks for the layers it lacks. Every document is checked against the digest that led to it.
//
// A push asks for each layer whether it is there, has it mounted from another repository of the registry that the image is known
// to be in, or else sends the blob of the store as it is; then config and manifest.
//
// Registries on loopback are reached as Docker does it: HTTPS without verifying the certificate, plain HTTP when there is
// no TLS. Others need Insecure or PlainHTTP for that. Credentials come from ~/.docker/config.json ($DOCKER_CONFIG),
// credential helpers included. A transfer that breaks is resumed where it broke (Range), five times at most.
//
// Caveats: Docker schema 1 is refused. Layers with foreign URLs are asked of the registry only. A bearer realm must not be
// on loopback unless the registry is (oras-go's default against request forgery).
//
// Example:
//
//	p := registry.NewProgress(os.Stdout)
//	res, err := registry.Pull(ctx, s, ref, registry.Options{Events: p.Event})
//	p.Close()
package registry
