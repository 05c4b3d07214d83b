package registry

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/retry"

	"vitro/internal/image"
)

// client is a connection to one repository.
type client struct {
	repo      *remote.Repository
	transport *http.Transport
}

// Host is the host and port that a reference is pulled from.
func Host(ref image.Reference) string {
	return registry.Reference{Registry: ref.Domain}.Host()
}

func newClient(ctx context.Context, ref image.Reference, o Options) *client {
	host := Host(ref)
	local := isLoopback(host)
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableCompression = true // a layer's bytes must arrive as they are
	t.ReadBufferSize = 64 << 10
	t.MaxIdleConnsPerHost = 8
	t.ResponseHeaderTimeout = o.Patience
	if local || o.Insecure {
		t.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // as Docker treats insecure registries
	}
	if o.TLS != nil {
		t.TLSClientConfig = o.TLS
	}
	ac := &auth.Client{
		Client:     &http.Client{Transport: retry.NewTransport(t)},
		Header:     http.Header{"User-Agent": {"vitro"}},
		Cache:      auth.NewCache(),
		Credential: o.Credential,
	}
	if ac.Credential == nil {
		if cs, err := credentials.NewStoreFromDocker(credentials.StoreOptions{}); err == nil {
			ac.Credential = credentials.Credential(cs)
		}
	}
	if local {
		ac.BlockedRealmPrefixes = []netip.Prefix{} // its token server is on loopback as well
	}
	plain := o.PlainHTTP
	if !plain && (local || o.Insecure) {
		plain = !speaksTLS(ctx, t, host)
	}
	return &client{transport: t, repo: &remote.Repository{
		Client:             ac,
		Reference:          registry.Reference{Registry: ref.Domain, Repository: ref.Path},
		PlainHTTP:          plain,
		ManifestMediaTypes: image.ManifestTypes(),
	}}
}

func (c *client) close() { c.transport.CloseIdleConnections() }

// speaksTLS says whether a TLS handshake with host succeeds.
func speaksTLS(ctx context.Context, t *http.Transport, host string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/v2/", nil)
	if err != nil {
		return false
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return true
}

// isLoopback says whether host[:port] is localhost or a loopback address; no name is looked up.
func isLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}
