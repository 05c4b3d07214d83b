package store

import "github.com/opencontainers/go-digest"

// State is a step of a layer's import, in docker's words.
type State string

// The states of a layer, in order. Downloading and Extracting overlap: Extracting is what is left after the last byte came.
const (
	PullingFSLayer   State = "Pulling fs layer"
	Waiting          State = "Waiting" // another process makes this layer
	Downloading      State = "Downloading"
	Retrying         State = "Retrying"
	DownloadComplete State = "Download complete"
	Extracting       State = "Extracting"
	PullComplete     State = "Pull complete"
	AlreadyExists    State = "Already exists"
)

// Event reports progress. Current and Total are bytes of the blob. Events of one import come from many goroutines, but
// the callback is never called twice at once.
type Event struct {
	Layer   int           // index in the manifest, bottom is 0
	Digest  digest.Digest // of the blob
	State   State
	Current int64
	Total   int64
	Err     error // with Retrying: why
}

// ID is the short name that docker shows for a layer.
func (e Event) ID() string { return short(e.Digest) }
