package runtime

import (
	"maps"
	goruntime "runtime"
	"slices"
	"strconv"

	"vitro/internal/stub"
	"vitro/internal/sys"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// device is a link of linux.netDevices with what a move to another network namespace takes away.
type device struct {
	link
	field  string
	want   string // name, or template with %d, in the container
	inside int32  // index in the container
	addrs  []address
}

// mover holds a netlink socket and the namespace's file of each side.
type mover struct {
	host, in     *route
	hostNS, inNS int
}

// moveDevices does linux.netDevices: all, or none.
func moveDevices(l *stub.Launch, devices map[string]specs.LinuxNetDevice) error {
	m, err := newMover(l.PID)
	defer m.close()
	if err != nil {
		return err
	}
	all := make([]device, 0, len(devices))
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		d, err := m.look(name, devices[name].Name)
		if err != nil {
			return err
		}
		all = append(all, d)
	}
	for k := range all {
		if err := m.enter(&all[k]); err != nil {
			for ; k >= 0; k-- {
				m.leave(&all[k])
			}
			return err
		}
	}
	return nil
}

// newMover opens both sides. A netlink socket belongs to the namespace that its thread is in when it is made; a thread that does not come
// back stays locked.
func newMover(pid int) (m *mover, err error) {
	m = &mover{hostNS: -1, inNS: -1}
	if m.hostNS, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return m, wrap("linux.netDevices: open our network namespace", err)
	}
	if m.inNS, err = unix.Open("/proc/"+sys.Itoa(pid)+"/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return m, wrap("linux.netDevices: open the container's network namespace", err)
	}
	var ours, theirs unix.Stat_t
	if unix.Fstat(m.hostNS, &ours) != nil || unix.Fstat(m.inNS, &theirs) != nil || ours.Ino == theirs.Ino {
		return m, text("linux.netDevices: the container's network namespace is the host's")
	}
	if m.host, err = openRoute(); err != nil {
		return m, wrap("linux.netDevices: open a netlink socket", err)
	}
	goruntime.LockOSThread()
	if err := unix.Setns(m.inNS, unix.CLONE_NEWNET); err != nil {
		goruntime.UnlockOSThread()
		return m, wrap("linux.netDevices: enter the container's network namespace", err)
	}
	m.in, err = openRoute()
	if back := unix.Setns(m.hostNS, unix.CLONE_NEWNET); back != nil {
		return m, wrap("linux.netDevices: go back to the host's network namespace", back)
	}
	goruntime.UnlockOSThread()
	return m, wrap("linux.netDevices: open a netlink socket in the container's network namespace", err)
}

func (m *mover) close() {
	m.host.close()
	m.in.close()
	for _, fd := range []int{m.hostNS, m.inNS} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// look finds the device and its addresses, and refuses a name that is taken: the kernel may see that only after the move.
func (m *mover) look(name, want string) (d device, err error) {
	field := "linux.netDevices[" + strconv.Quote(name) + "]"
	if want == "" {
		want = name
	}
	d = device{field: field, want: want}
	if d.link, err = m.host.link(0, name); err == unix.ENODEV {
		return d, text(field + ": no such device in the runtime's network namespace")
	} else if err != nil {
		return d, wrap(field+": look for the device", err)
	}
	if _, err := m.in.link(0, want); err == nil {
		return d, text(field + ".name: " + strconv.Quote(want) + " is taken in the container's network namespace")
	}
	d.addrs, err = m.host.addresses(d.index)
	return d, wrap(field+": read the addresses", err)
}

// enter moves a device into the container and brings it up there.
func (m *mover) enter(d *device) (err error) {
	if d.inside, err = m.in.free(d.index); err != nil {
		return wrap(d.field+": look for a free index", err)
	}
	if err := m.host.move(d.index, m.inNS, d.want, d.inside); err != nil {
		return wrap(d.field+": move into the container's network namespace as "+strconv.Quote(d.want), err)
	}
	for _, a := range d.addrs {
		if err := m.in.add(d.inside, a); err != nil {
			return wrap(d.field+": restore an address", err)
		}
	}
	return wrap(d.field+": bring up", m.in.up(d.inside))
}

// leave takes a device back to the host after a failure, as far as it came.
func (m *mover) leave(d *device) {
	if _, err := m.host.link(d.index, ""); err == nil || m.in.move(d.inside, m.hostNS, d.name, d.index) != nil {
		return
	}
	if d.flags&unix.IFF_UP != 0 {
		_ = m.host.up(d.index)
	}
	for _, a := range d.addrs {
		_ = m.host.add(d.index, a)
	}
}
