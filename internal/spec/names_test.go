package spec

import (
	"reflect"
	"strings"
	"testing"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestCapabilities(t *testing.T) {
	for _, c := range capability.ListKnown() {
		name := "CAP_" + strings.ToUpper(c.String())
		if n, ok := CapNumber(name); !ok || n != int(c) || CapName(n) != name {
			t.Error(name, n, ok)
		}
	}
	for _, bad := range []string{"", "KILL", "cap_kill", "CAP_FOO"} {
		if n, ok := CapNumber(bad); ok {
			t.Error(bad, n)
		}
	}
	if CapName(-1) != "" || CapName(41) != "" {
		t.Error("name out of range")
	}
}

func TestSignals(t *testing.T) {
	for n := 1; n < 32; n++ {
		name := unix.SignalName(unix.Signal(n))
		for _, s := range []string{name, strings.TrimPrefix(name, "SIG"), strings.ToLower(name)} {
			if have, ok := SignalNumber(s); !ok || have != n {
				t.Error(s, have, ok)
			}
		}
		if name != SignalName(n) {
			t.Error(n, SignalName(n))
		}
	}
	for s, want := range map[string]int{"0": 0, "9": 9, "64": 64, "RTMIN": 34, "SIGRTMIN+3": 37, "rtmax-1": 63, "RTMAX": 64, "SIGIOT": 6, "CLD": 17, "POLL": 29} {
		if n, ok := SignalNumber(s); !ok || n != want {
			t.Error(s, n, ok)
		}
	}
	for _, bad := range []string{"", "SIG", "65", "-1", "+9", "SIGSIGKILL", "RTMIN+31", "RTMIN-1", "RTMAX-31", "RTMIN+", "RTMIN+x", "FOO"} {
		if n, ok := SignalNumber(bad); ok {
			t.Error(bad, n)
		}
	}
	if SignalName(37) != "SIGRTMIN+3" || SignalName(33) != "" || SignalName(0) != "" {
		t.Error(SignalName(37))
	}
}

func TestNumbers(t *testing.T) {
	for name, want := range map[string]int{"RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_AS": unix.RLIMIT_AS} {
		if n, ok := RlimitNumber(name); !ok || n != want || RlimitName(n) != name {
			t.Error(name, n)
		}
	}
	for typ, want := range map[specs.LinuxNamespaceType]uint64{
		specs.PIDNamespace: unix.CLONE_NEWPID, specs.NetworkNamespace: unix.CLONE_NEWNET, specs.MountNamespace: unix.CLONE_NEWNS,
		specs.IPCNamespace: unix.CLONE_NEWIPC, specs.UTSNamespace: unix.CLONE_NEWUTS, specs.UserNamespace: unix.CLONE_NEWUSER,
		specs.CgroupNamespace: unix.CLONE_NEWCGROUP, specs.TimeNamespace: unix.CLONE_NEWTIME,
	} {
		if f, ok := CloneFlag(typ); !ok || f != want {
			t.Error(typ, f)
		}
	}
	for have, want := range map[uint64]uint64{
		AttrRdonly: unix.MOUNT_ATTR_RDONLY, AttrNosuid: unix.MOUNT_ATTR_NOSUID, AttrNodev: unix.MOUNT_ATTR_NODEV, AttrNoexec: unix.MOUNT_ATTR_NOEXEC,
		AttrNoatime: unix.MOUNT_ATTR_NOATIME, AttrStrictatime: unix.MOUNT_ATTR_STRICTATIME, AttrAtime: unix.MOUNT_ATTR__ATIME,
		AttrNodiratime: unix.MOUNT_ATTR_NODIRATIME, AttrNosymfollow: unix.MOUNT_ATTR_NOSYMFOLLOW,
		MsRec: unix.MS_REC, MsShared: unix.MS_SHARED, MsSlave: unix.MS_SLAVE, MsPrivate: unix.MS_PRIVATE, MsUnbindable: unix.MS_UNBINDABLE,
		MsLazytime: unix.MS_LAZYTIME, MsIVersion: unix.MS_I_VERSION, MsSilent: unix.MS_SILENT, MsMandlock: unix.MS_MANDLOCK,
	} {
		if have != want {
			t.Errorf("%#x != %#x", have, want)
		}
	}
}

func TestSysctlNames(t *testing.T) {
	for key, want := range map[string][2]string{
		"net.ipv4.ip_forward":             {"net.ipv4.ip_forward", "net/ipv4/ip_forward"},
		"net/ipv4/conf/eth0.1/forwarding": {"net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"},
		"net.ipv4.conf.eth0/1.forwarding": {"net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"},
		"x":                               {"x", "x"},
		"":                                {"", ""},
		"/etc/passwd":                     {".etc.passwd", ""},
		"net/../../x":                     {"net.//.//.x", ""},
	} {
		p, ok := SysctlPath(key)
		if SysctlKey(key) != want[0] || p != want[1] || ok != (p != "") {
			t.Error(key, SysctlKey(key), p, ok)
		}
	}
}

func TestParseMountOptions(t *testing.T) {
	for opts, want := range map[string]MountOptions{
		"":                                  {},
		"defaults":                          {},
		"ro":                                {AttrSet: AttrRdonly, SuperSet: MsRdonly},
		"rw":                                {AttrClr: AttrRdonly, SuperClr: MsRdonly},
		"ro,rw,ro,nosuid":                   {AttrSet: AttrRdonly | AttrNosuid, SuperSet: MsRdonly},
		"bind,ro,sync":                      {AttrSet: AttrRdonly, Bind: true},
		"rbind,rslave,shared,rro":           {RecSet: AttrRdonly, Bind: true, Rec: true, Propagation: []uint64{MsSlave | MsRec, MsShared}},
		"rw,nosuid,suid,dev,exec":           {AttrClr: AttrRdonly | AttrNosuid | AttrNodev | AttrNoexec, SuperClr: MsRdonly},
		"noatime":                           {AttrSet: AttrNoatime, AttrClr: AttrAtime},
		"noatime,strictatime":               {AttrSet: AttrStrictatime, AttrClr: AttrAtime},
		"noatime,relatime":                  {AttrClr: AttrAtime},
		"strictatime,atime":                 {AttrSet: AttrStrictatime, AttrClr: AttrAtime},
		"noatime,atime":                     {AttrClr: AttrAtime},
		"atime":                             {AttrClr: AttrAtime},
		"norelatime":                        {},
		"relatime,norelatime":               {},
		"noatime,norelatime":                {AttrSet: AttrNoatime, AttrClr: AttrAtime},
		"nodiratime,noatime":                {AttrSet: AttrNodiratime | AttrNoatime, AttrClr: AttrAtime},
		"rnoatime,rnodiratime,rstrictatime": {RecSet: AttrNodiratime | AttrStrictatime, RecClr: AttrAtime},
		"rrelatime,rrw,rnosymfollow":        {RecSet: AttrNosymfollow, RecClr: AttrAtime | AttrRdonly},
		"sync,dirsync,lazytime,async":       {SuperSet: MsDirsync | MsLazytime, SuperClr: MsSynchronous},
		"mode=755,tmpcopyup,size=64k":       {TmpCopyUp: true, Data: []string{"mode=755", "size=64k"}},
		"remount,runbindable,iversion":      {Remount: true, Propagation: []uint64{MsUnbindable | MsRec}, SuperSet: MsIVersion},
	} {
		var list []string
		if opts != "" {
			list = strings.Split(opts, ",")
		}
		have, err := ParseMountOptions(list)
		if err != nil || !reflect.DeepEqual(*have, want) {
			t.Errorf("%s: %v\nhave %+v\nwant %+v", opts, err, have, want)
		}
	}
	for opts, want := range map[string]string{
		"ro,ridmap":    "options[1]: ridmap is not supported yet",
		"copy-symlink": "options[0]: copy-symlink is not supported yet",
		"ro,,rw":       "options[1]: must not be empty",
		"a\x00b":       "options[0]: must not hold a NUL byte",
		"bind,x=y":     `options: a bind mount takes no option of a file system, got "x=y"`,
	} {
		if _, err := ParseMountOptions(strings.Split(opts, ",")); err == nil || err.Error() != want {
			t.Errorf("%s: have %v, want %s", opts, err, want)
		}
	}
}
