// Package regtest is a registry in memory for tests: the pull side of the distribution protocol (distribution-spec 1.1)
// over net/http/httptest, with switches for what goes wrong in real life, and a small builder of images.
//
// Example:
//
//	srv := regtest.New(t)
//	d := srv.Push("app", "latest", regtest.Image{Layers: []regtest.Layer{{Files: map[string]string{"etc/x": "1"}}}})
//	srv.Fault(blob, regtest.Faults{Truncate: 2})
package regtest
