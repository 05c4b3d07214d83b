package registry

import (
	"io"
	"testing"
	"time"
)

func TestPatientReader(t *testing.T) {
	r, w := io.Pipe()
	go w.Write([]byte("abc"))
	p := &patientReader{r, 20 * time.Millisecond}
	b := make([]byte, 10)
	if n, err := p.Read(b); n != 3 || err != nil {
		t.Fatalf("Read: %d, %v", n, err)
	}
	if _, err := p.Read(b); err == nil || err.Error() != "nothing came for 20ms" {
		t.Fatalf("Read of a source that hangs: %v", err)
	}
}
