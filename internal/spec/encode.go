package spec

import (
	"maps"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"vitro/internal/spec/jsonx"
)

// Encode writes s as json.Marshal would. Sections of other platforms are written as {}.
func Encode(s *specs.Spec) []byte {
	var e encoder
	e.Grow(4096)
	e.spec(s)
	return e.Bytes()
}

// EncodeIndent writes s with tabs, as `vitrun spec` prints it, without a newline at the end.
func EncodeIndent(s *specs.Spec) []byte {
	e := encoder{jsonx.Writer{Indent: "\t"}}
	e.Grow(4096)
	e.spec(s)
	return e.Bytes()
}

// EncodeProcess writes p as json.Marshal would.
func EncodeProcess(p *specs.Process) []byte {
	var e encoder
	e.process(p)
	return e.Bytes()
}

// EncodeState writes s as json.Marshal would: what a hook reads from its stdin.
func EncodeState(s *specs.State) []byte {
	var e encoder
	e.state(s)
	return e.Bytes()
}

// encoder has one method for each type of specs-go, in codec.go.
type encoder struct{ jsonx.Writer }

func (e *encoder) section() {
	e.BeginObject()
	e.EndObject()
}

func writeWords[T ~string](e *encoder, v []T) {
	if v == nil {
		e.Null()
		return
	}
	e.BeginArray()
	for _, w := range v {
		e.String(string(w))
	}
	e.EndArray()
}

func (e *encoder) numbers(v []uint32) {
	e.BeginArray()
	for _, n := range v {
		e.Uint(uint64(n))
	}
	e.EndArray()
}

func writeList[T any](e *encoder, v []T, write func(*encoder, *T)) {
	e.BeginArray()
	for i := range v {
		write(e, &v[i])
	}
	e.EndArray()
}

func (e *encoder) dict(v map[string]string) {
	e.BeginObject()
	for _, k := range slices.Sorted(maps.Keys(v)) {
		e.Key(k)
		e.String(v[k])
	}
	e.EndObject()
}

func writeTable[T any](e *encoder, v map[string]T, write func(*encoder, *T)) {
	e.BeginObject()
	for _, k := range slices.Sorted(maps.Keys(v)) {
		e.Key(k)
		x := v[k]
		write(e, &x)
	}
	e.EndObject()
}
