package spec

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	seccomp "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// oracle is what encoding/json makes of b; sections of other platforms count only as there or not.
func oracle(b []byte) (*specs.Spec, error) {
	var o struct {
		specs.Spec
		Windows *map[string]json.RawMessage `json:"windows"`
		Solaris *map[string]json.RawMessage `json:"solaris"`
		VM      *map[string]json.RawMessage `json:"vm"`
		ZOS     *map[string]json.RawMessage `json:"zos"`
		FreeBSD *map[string]json.RawMessage `json:"freebsd"`
	}
	if err := json.Unmarshal(b, &o); err != nil {
		return nil, err
	}
	s := &o.Spec
	if o.Windows != nil {
		s.Windows = &specs.Windows{}
	}
	if o.Solaris != nil {
		s.Solaris = &specs.Solaris{}
	}
	if o.VM != nil {
		s.VM = &specs.VM{}
	}
	if o.ZOS != nil {
		s.ZOS = &specs.ZOS{}
	}
	if o.FreeBSD != nil {
		s.FreeBSD = &specs.FreeBSD{}
	}
	return s, nil
}

// alike holds Decode against encoding/json on b.
func alike(t *testing.T, b []byte) {
	t.Helper()
	want, werr := oracle(b)
	have, warnings, err := Decode(b)
	if (err == nil) != (werr == nil) {
		t.Fatalf("Decode: %v, encoding/json: %v\n%q", err, werr, b)
	}
	for _, w := range warnings {
		if strings.HasPrefix(w.Msg, "repeated") {
			return // encoding/json merges
		}
	}
	if err == nil && !reflect.DeepEqual(have, want) {
		t.Fatalf("%q\nhave %s\nwant %s", b, mustJSON(t, have), mustJSON(t, want))
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// dockerLike is the default spec with Docker's seccomp profile, some 50 KB.
func dockerLike(t testing.TB) []byte {
	t.Helper()
	s := Example()
	profile, err := seccomp.GetDefaultProfile(s)
	if err != nil {
		t.Fatal(err)
	}
	s.Linux.Seccomp = profile
	b, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFilesAsEncodingJSON(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(filepath.Base(f), func(t *testing.T) { alike(t, b) })
	}
	alike(t, dockerLike(t))
}

// random fills v; pointers, slices and maps are nil, empty or filled.
func random(r *rand.Rand, v reflect.Value) {
	words := []string{"", "a", "CAP_KILL", "é", "a\"b\\c\n\t\x01", "<&>", "\u2028", "😀", "/proc/self", strings.Repeat("x", 70)}
	word := func() string { return words[r.IntN(len(words))] }
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.String:
		v.SetString(word())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(r.Uint64()) >> (64 - v.Type().Bits() + r.IntN(v.Type().Bits())))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(r.Uint64() >> (64 - v.Type().Bits() + r.IntN(v.Type().Bits())))
	case reflect.Pointer:
		switch {
		case r.IntN(4) == 0:
		case foreign[v.Type().Elem()]:
			if r.IntN(8) == 0 {
				v.Set(reflect.New(v.Type().Elem()))
			}
		default:
			v.Set(reflect.New(v.Type().Elem()))
			random(r, v.Elem())
		}
	case reflect.Slice:
		if n := r.IntN(12) - 1; n >= 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				random(r, v.Index(i))
			}
		}
	case reflect.Map:
		if n := r.IntN(6) - 1; n >= 0 {
			v.Set(reflect.MakeMap(v.Type()))
			for range n {
				e := reflect.New(v.Type().Elem()).Elem()
				random(r, e)
				v.SetMapIndex(reflect.ValueOf(word()), e)
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			random(r, v.Field(i))
		}
	default:
		panic(v.Type())
	}
}

func TestRandomSpecs(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var s specs.Spec
		random(r, reflect.ValueOf(&s).Elem())
		text := mustJSON(t, &s)
		alike(t, text)
		s.Windows, s.Solaris, s.VM, s.ZOS, s.FreeBSD = nil, nil, nil, nil, nil
		if have, want := Encode(&s), mustJSON(t, &s); !bytes.Equal(have, want) {
			t.Fatalf("Encode:\nhave %s\nwant %s", have, want)
		}
		want, err := json.MarshalIndent(&s, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		if have := EncodeIndent(&s); !bytes.Equal(have, want) {
			t.Fatalf("EncodeIndent:\nhave %s\nwant %s", have, want)
		}
		if s.Process != nil {
			b := mustJSON(t, s.Process)
			if have := EncodeProcess(s.Process); !bytes.Equal(have, b) {
				t.Fatalf("EncodeProcess:\nhave %s\nwant %s", have, b)
			}
			var want specs.Process
			if err := json.Unmarshal(b, &want); err != nil {
				t.Fatal(err)
			}
			if have, _, err := DecodeProcess(b); err != nil || !reflect.DeepEqual(have, &want) {
				t.Fatalf("DecodeProcess: %v\n%s", err, b)
			}
		}
		var st specs.State
		random(r, reflect.ValueOf(&st).Elem())
		b := mustJSON(t, &st)
		if have := EncodeState(&st); !bytes.Equal(have, b) {
			t.Fatalf("EncodeState:\nhave %s\nwant %s", have, b)
		}
		var want2 specs.State
		if err := json.Unmarshal(b, &want2); err != nil {
			t.Fatal(err)
		}
		if have, _, err := DecodeState(b); err != nil || !reflect.DeepEqual(have, &want2) {
			t.Fatalf("DecodeState: %v\n%s", err, b)
		}
	}
}

func BenchmarkDecodeDefault(b *testing.B) { benchmarkDecode(b, EncodeIndent(Example())) }
func BenchmarkDecodeSeccomp(b *testing.B) { benchmarkDecode(b, dockerLike(b)) }

func benchmarkDecode(b *testing.B, text []byte) {
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Decode(text); err != nil {
			b.Fatal(err)
		}
	}
}
