package engine

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// newID is 64 random hex digits. Docker avoids IDs whose short form is a number, which a hostname must not be.
func newID() string {
	for {
		var b [32]byte
		_, _ = rand.Read(b[:]) // never fails
		id := hex.EncodeToString(b[:])
		if strings.ContainsAny(id[:12], "abcdef") {
			return id
		}
	}
}

func isID(s string) bool {
	if len(s) != 64 {
		return false
	}
	return strings.Trim(s, "0123456789abcdef") == ""
}

// validName is Docker's rule: [a-zA-Z0-9][a-zA-Z0-9_.-]+
func validName(s string) error {
	alnum := func(c rune) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' }
	bad := len(s) < 2 || len(s) > 200 || !alnum(rune(s[0]))
	for _, c := range s {
		bad = bad || !alnum(c) && !strings.ContainsRune("_.-", c)
	}
	if bad {
		return fmt.Errorf("invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", s)
	}
	return nil
}

// randomName picks two words, and from the third try on a number, so that names do not run out.
func randomName(try int) string {
	var b [6]byte
	_, _ = rand.Read(b[:])
	n := func(i, of int) int { return int(binary.LittleEndian.Uint16(b[i:])) % of }
	name := traits[n(0, len(traits))] + "_" + people[n(2, len(people))]
	if try > 2 {
		name += fmt.Sprint(n(4, 100))
	}
	return name
}

func (e *Engine) namePath(name string) string { return filepath.Join(e.Root, "names", name) }

// reserve gives name (or, when empty, a random one) to id: a symbolic link to the ID.
func (e *Engine) reserve(name, id string) (string, error) {
	if name != "" {
		if err := validName(name); err != nil {
			return "", err
		}
	}
	link := func() error {
		return e.withLock(namesLock, syscall.LOCK_EX, func() error { return e.link(name, id) })
	}
	if name != "" {
		var taken *nameTakenError
		err := link()
		if errors.As(err, &taken) && e.clearAway(taken.owner) {
			err = link()
		}
		return name, err
	}
	err := e.withLock(namesLock, syscall.LOCK_EX, func() (err error) {
		for try := 0; ; try++ {
			name = randomName(try)
			var taken *nameTakenError
			if err = e.link(name, id); !errors.As(err, &taken) || try == 50 {
				return err
			}
		}
	})
	return name, err
}

type nameTakenError struct{ name, owner string }

func (e *nameTakenError) Error() string {
	return fmt.Sprintf("Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.", "/"+e.name, e.owner)
}

// link needs namesLock.
func (e *Engine) link(name, id string) error {
	if owner, err := os.Readlink(e.namePath(name)); err == nil {
		if _, err := os.Lstat(e.dir(owner)); err == nil {
			return &nameTakenError{name, owner}
		}
		os.Remove(e.namePath(name)) // its owner's folder went, and a crash left the name
	}
	return os.Symlink(id, e.namePath(name))
}

// unlink frees a name if it is id's.
func (e *Engine) unlink(name, id string) {
	_ = e.withLock(namesLock, syscall.LOCK_EX, func() error {
		if owner, err := os.Readlink(e.namePath(name)); err == nil && owner == id {
			return os.Remove(e.namePath(name))
		}
		return nil
	})
}

// The words of random names: how glass can be, and people who looked at nature through it or at what goes on inside.
var traits = [...]string{
	"amber", "annealed", "blown", "bright", "brilliant", "calm", "clear", "cobalt", "cool", "crisp", "crystal", "curved",
	"cut", "dazzling", "etched", "faceted", "fine", "flawless", "fluted", "focused", "frosted", "fused", "gilded",
	"gleaming", "glossy", "glowing", "golden", "hollow", "iridescent", "keen", "light", "limpid", "lucent", "lucid",
	"luminous", "mellow", "milky", "molten", "opal", "pale", "patient", "pearly", "plain", "polished", "prismatic", "pure",
	"quiet", "radiant", "rippled", "rosy", "satin", "serene", "sheer", "shiny", "silvery", "sleek", "smooth", "sparkling",
	"spotless", "stained", "steady", "tempered", "thin", "tinted", "tough", "vivid", "vital", "watchful",
}

var people = [...]string{
	"abbe", "alhazen", "anning", "avicenna", "avogadro", "becquerel", "blackburn", "bohr", "bose", "bragg", "carson",
	"cavendish", "cori", "curie", "dalton", "darwin", "edwards", "elion", "euler", "faraday", "fermi", "fleming", "franklin",
	"fraunhofer", "fresnel", "galileo", "galvani", "gauss", "goodall", "haldane", "harvey", "herschel", "hodgkin", "hooke",
	"hopper", "huygens", "johannsen", "joliot", "kepler", "koch", "lavoisier", "leeuwenhoek", "linnaeus", "lister",
	"lovelace", "malpighi", "margulis", "maxwell", "mcclintock", "meitner", "mendel", "merian", "newton", "noether",
	"pasteur", "payne", "planck", "raman", "ramon", "ritchie", "rubin", "salk", "schott", "somerville", "swammerdam",
	"turing", "volta", "wallace", "wu", "zeiss",
}
