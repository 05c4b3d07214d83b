package dns

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func write(t *testing.T, dir, container, network, text string) {
	t.Helper()
	path := filepath.Join(dir, container, network+".json")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".tmp", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
	touch(t, dir)
}

func touch(t *testing.T, dir string) {
	t.Helper()
	if err := os.Chtimes(dir, time.Time{}, time.Now()); err != nil {
		t.Fatal(err)
	}
}

// endpoint is a record as package network writes it.
func endpoint(container, name, network, ifname, ip4, ip6, more string) string {
	return fmt.Sprintf(`{"Container":%q,"Name":%q,"Network":"id-%s","NetworkName":%q,"IfName":%q,"IP4":%q,"IP6":%q%s}`, container, name, network, network, ifname, ip4, ip6, more)
}

const (
	idA = "aaaaaaaaaaaa0000000000000000000000000000000000000000000000000000"
	idB = "bbbbbbbbbbbb0000000000000000000000000000000000000000000000000000"
	idC = "cccccccccccc0000000000000000000000000000000000000000000000000000"
	idD = "dddddddddddd0000000000000000000000000000000000000000000000000000"
)

// network: a is on front and back; b on front; c on back; d on another.
func testRecords(t *testing.T) string {
	dir := t.TempDir() + "/endpoints"
	write(t, dir, idA, "front", endpoint(idA, "a", "front", "eth0", "10.1.0.2/24", "", ""))
	write(t, dir, idA, "back", endpoint(idA, "a", "back", "eth1", "10.2.0.2/24", "fd00::2/64", `,"Internal":true`))
	write(t, dir, idB, "front", endpoint(idB, "B", "front", "eth0", "10.1.0.3/24", "", `,"Aliases":["web","API"]`))
	write(t, dir, idC, "back", endpoint(idC, "c", "back", "eth0", "10.2.0.4/24", "fd00::4/64", `,"Aliases":["web"],"Internal":true`))
	write(t, dir, idD, "else", endpoint(idD, "d", "else", "eth0", "10.3.0.2/24", "", ""))
	return dir
}

func addrs(ss ...string) (out []netip.Addr) {
	for _, s := range ss {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func lookup(t *testing.T, n Names, name string, want ...string) {
	t.Helper()
	got, known := n.Lookup(name)
	if !slices.Equal(got, addrs(want...)) || known != (len(want) > 0) {
		t.Errorf("%s: got %v %v, want %v", name, got, known, want)
	}
}

func TestRecords(t *testing.T) {
	dir := testRecords(t)
	a, c := NewRecords(dir, idA), NewRecords(dir, idC)
	lookup(t, a, "b", "10.1.0.3")
	lookup(t, a, "bbbbbbbbbbbb", "10.1.0.3")
	lookup(t, a, idB, "10.1.0.3")
	lookup(t, a, "api", "10.1.0.3")
	lookup(t, a, "web", "10.1.0.3") // eth0's network first
	lookup(t, a, "web.back", "10.2.0.4", "fd00::4")
	lookup(t, a, "a", "10.1.0.2")
	lookup(t, a, "c", "10.2.0.4", "fd00::4")
	lookup(t, a, "d")
	lookup(t, a, "d.else")
	lookup(t, a, "b.back")
	lookup(t, c, "b")
	lookup(t, c, "a", "10.2.0.2", "fd00::2")
	if a.Internal() || !c.Internal() {
		t.Error("internal: a is on one network with a way out, c is not")
	}
	for addr, want := range map[string]string{"10.1.0.3": "B.front", "fd00::4": "c.back", "10.3.0.2": ""} {
		if got, ok := a.Reverse(netip.MustParseAddr(addr)); got != want || ok != (want != "") {
			t.Errorf("%s: %q %v", addr, got, ok)
		}
	}
}

// Whatever changes is seen by the next question.
func TestRecordsAreCurrent(t *testing.T) {
	dir := testRecords(t)
	a, c := NewRecords(dir, idA), NewRecords(dir, idC)
	for k := range 50 {
		ip := fmt.Sprintf("10.1.0.%d", 10+k)
		write(t, dir, idB, "front", endpoint(idB, "B", "front", "eth0", ip+"/24", "", ""))
		lookup(t, a, "b", ip)
		lookup(t, a, "web.front")
	}
	lookup(t, c, "b")
	write(t, dir, idC, "front", endpoint(idC, "c", "front", "eth1", "10.1.0.99/24", "", "")) // network connect
	lookup(t, c, "b", "10.1.0.59")
	if c.Internal() {
		t.Error("c is connected to a network with a way out")
	}
	if err := os.Remove(dir + "/" + idC + "/front.json"); err != nil {
		t.Fatal(err)
	}
	touch(t, dir)
	lookup(t, c, "b")
	if err := os.RemoveAll(dir + "/" + idB); err != nil {
		t.Fatal(err)
	}
	lookup(t, a, "b")
	write(t, dir, idB, "front", "{broken")
	lookup(t, a, "b")
	write(t, dir, idB, "front", endpoint(idB, "b", "front", "eth0", "10.1.0.3/24", "", `,"State":"attaching"`))
	lookup(t, a, "b")
	for _, none := range []*Records{NewRecords(dir+"/none", idA), NewRecords(dir, "none")} {
		lookup(t, none, "a")
		if !none.Internal() {
			t.Error("a container without a network has a way out")
		}
	}
}

// A writer that does not touch the folder of folders is noticed later.
func TestRecordsUntouched(t *testing.T) {
	dir := testRecords(t)
	a := NewRecords(dir, idA)
	if err := os.Chtimes(dir, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	lookup(t, a, "b", "10.1.0.3")
	if err := os.WriteFile(dir+"/"+idB+"/more.json", []byte(endpoint(idB, "b2", "front", "eth1", "10.1.0.4/24", "", "")), 0o600); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, known := a.Lookup("b2"); known {
			return
		}
		if time.Now().After(end) {
			t.Fatal("b2 is not known after 10 s")
		}
	}
}

func BenchmarkRecords(b *testing.B) {
	dir := b.TempDir()
	for k := range 300 {
		id := fmt.Sprintf("c%03d", k)
		os.MkdirAll(dir+"/"+id, 0o700)
		os.WriteFile(dir+"/"+id+"/front.json", []byte(endpoint(id, "n"+id, "front", "eth0", fmt.Sprintf("10.1.%d.%d/16", k/250, k%250+2), "", "")), 0o600)
	}
	r := NewRecords(dir, "c000")
	for b.Loop() {
		r.Lookup("nc299")
	}
}
