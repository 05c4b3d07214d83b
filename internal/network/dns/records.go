package dns

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// record is what of an endpoint's file (network.Endpoint) counts for names.
type record struct {
	Container   string
	Name        string
	Network     string
	NetworkName string
	IfName      string
	IP4, IP6    netip.Prefix
	Internal    bool
	Aliases     []string
	State       string
}

// Records are the [Names] of one container, read from <dir>/<container>/<network>.json of all.
//
// A writer renames a finished file into its folder, or removes it, and then sets the mtime of dir to now (utimensat(2)). A question costs one look at that
// mtime. For writers that do not, all folders are looked at every 200 ms (3 µs each).
type Records struct {
	dir, container string

	mu      sync.Mutex
	self    folder             // dir
	folders map[string]*folder // by container
	index   index
}

// folder is one container's.
type folder struct {
	modified, read int64 // ns
	records        []record
}

// index is made new when a folder changed.
type index struct {
	networks []string                // that the container is on, by interface name
	names    map[string][]netip.Addr // network ID "/" name
	labels   map[string]string       // network name → ID
	reverse  map[netip.Addr]string
	internal bool
}

// NewRecords reads when asked.
func NewRecords(dir, container string) *Records {
	return &Records{dir: dir, container: container, index: index{internal: true}}
}

// Lookup implements [Names]. Of the container's networks the first that has the name answers.
func (r *Records) Lookup(name string) (addrs []netip.Addr, known bool) {
	x := r.current()
	for _, n := range x.networks {
		if addrs, known = x.names[n+"/"+name]; known {
			return addrs, true
		}
	}
	for label, id := range x.labels {
		if short, ok := strings.CutSuffix(name, "."+label); ok {
			if addrs, known = x.names[id+"/"+short]; known {
				return addrs, true
			}
		}
	}
	return nil, false
}

// Reverse implements [Names].
func (r *Records) Reverse(addr netip.Addr) (string, bool) {
	name, ok := r.current().reverse[addr]
	return name, ok
}

// Internal implements [Names]: no network of the container is known to lead out. What cannot be read does not open a way.
func (r *Records) Internal() bool { return r.current().internal }

// current is the index, made new if something changed.
func (r *Records) current() index {
	const pause = 200 * time.Millisecond
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now().UnixNano()
	modified := mtime(unix.AT_FDCWD, r.dir)
	if !r.self.stale(modified) && now-r.self.read < int64(pause) {
		return r.index
	}
	r.self = folder{modified: modified, read: now}
	if r.scan(now) {
		r.index = r.build()
	}
	return r.index
}

// scan reads the folders that changed.
func (r *Records) scan(now int64) (changed bool) {
	fd, err := unix.Open(r.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil { // most likely nobody has an endpoint
		clear(r.folders)
		return true
	}
	dir := os.NewFile(uintptr(fd), r.dir)
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	there := make(map[string]*folder, len(names))
	for _, name := range names {
		old := r.folders[name]
		if old == nil {
			old = &folder{}
		}
		there[name] = old
		if modified := mtime(fd, name); old.stale(modified) {
			records, ok := readFolder(filepath.Join(r.dir, name))
			if !ok {
				modified = 0 // again, the next time
			}
			changed = changed || !slices.EqualFunc(old.records, records, sameRecord)
			*old = folder{modified, now, records}
		}
	}
	for name := range r.folders {
		changed = changed || there[name] == nil
	}
	r.folders = there
	return changed
}

// stale tells whether a folder has to be read. Two changes within one tick of the kernel's clock have one mtime, so a folder that was young when it was
// read is read again.
func (f *folder) stale(modified int64) bool {
	return f.modified != modified || f.read-modified < int64(20*time.Millisecond)
}

// mtime is 0 for what is not there.
func mtime(dir int, name string) int64 {
	var st unix.Stat_t
	if unix.Fstatat(dir, name, &st, 0) != nil {
		return 0
	}
	return st.Mtim.Nano()
}

// readFolder tells with ok whether it could read all: a file that went away is none.
func readFolder(dir string) (all []record, ok bool) {
	entries, err := os.ReadDir(dir)
	ok = err == nil || os.IsNotExist(err)
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		ok = ok && (err == nil || os.IsNotExist(err))
		var one record
		if err == nil && json.Unmarshal(b, &one) == nil && one.Network != "" && one.State != "attaching" {
			all = append(all, one)
		}
	}
	return all, ok
}

func sameRecord(a, b record) bool {
	return a.Container == b.Container && a.Name == b.Name && a.Network == b.Network && a.NetworkName == b.NetworkName && a.IfName == b.IfName &&
		a.IP4 == b.IP4 && a.IP6 == b.IP6 && a.Internal == b.Internal && slices.Equal(a.Aliases, b.Aliases)
}

// build makes the index of the networks that the container is on.
func (r *Records) build() index {
	x := index{names: map[string][]netip.Addr{}, labels: map[string]string{}, reverse: map[netip.Addr]string{}}
	var own []record
	if f := r.folders[r.container]; f != nil {
		own = slices.Clone(f.records)
	}
	slices.SortFunc(own, func(a, b record) int { return strings.Compare(a.IfName, b.IfName) })
	x.internal = true
	for _, e := range own {
		x.networks = append(x.networks, e.Network)
		x.labels[strings.ToLower(e.NetworkName)] = e.Network
		x.internal = x.internal && e.Internal
	}
	for _, f := range r.folders {
		for _, e := range f.records {
			if slices.Contains(x.networks, e.Network) {
				x.add(&e)
			}
		}
	}
	for _, addrs := range x.names { // the order of a map's elements is not one to show
		slices.SortFunc(addrs, netip.Addr.Compare)
	}
	return x
}

func (x *index) add(e *record) {
	names := []string{e.Name, e.Container}
	if len(e.Container) > 12 {
		names = append(names, e.Container[:12])
	}
	names = append(names, e.Aliases...)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if name == "" {
			continue
		}
		key := e.Network + "/" + strings.ToLower(name)
		x.names[key] = slices.Clip(x.names[key]) // known, with an address or not
		for _, p := range []netip.Prefix{e.IP4, e.IP6} {
			if p.IsValid() && !slices.Contains(x.names[key], p.Addr()) {
				x.names[key] = append(x.names[key], p.Addr())
			}
		}
	}
	for _, p := range []netip.Prefix{e.IP4, e.IP6} {
		if p.IsValid() {
			x.reverse[p.Addr()] = e.Name + "." + e.NetworkName
		}
	}
}
