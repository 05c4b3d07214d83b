package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// limits reads a container's files of limits, by their v1 or v2 names.
type limits struct {
	t  *testing.T
	id string
	v2 bool
}

func limitsOf(t *testing.T, id string) limits {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return limits{t, id, err == nil}
}

func (l limits) path(controller, file string) string {
	if l.v2 {
		controller = ""
	}
	return filepath.Join("/sys/fs/cgroup", controller, l.id, file)
}

func (l limits) want(controller, v1, v2, want1, want2 string) {
	l.t.Helper()
	file, want := v1, want1
	if l.v2 {
		file, want = v2, want2
	}
	b, err := os.ReadFile(l.path(controller, file))
	if got := strings.TrimSpace(string(b)); got != want && !(file == "memory.memsw.limit_in_bytes" && os.IsNotExist(err)) {
		l.t.Errorf("%s: %q (%v), want %q", file, got, err, want)
	}
}

// memory: limit and, OCI's way, memory+swap. "-1" is no limit.
func (l limits) memory(limit, both int64) {
	l.t.Helper()
	text := func(n int64, none string) string {
		if n < 0 {
			return none
		}
		return strconv.FormatInt(n, 10)
	}
	const none1 = "9223372036854771712"
	l.want("memory", "memory.limit_in_bytes", "memory.max", text(limit, none1), text(limit, "max"))
	swap := both
	if both >= 0 {
		swap -= limit
	}
	l.want("memory", "memory.memsw.limit_in_bytes", "memory.swap.max", text(both, none1), text(swap, "max"))
}

func (l limits) cpu(quota, period string) {
	l.t.Helper()
	v2 := quota
	if v2 == "-1" {
		v2 = "max"
	}
	l.want("cpu", "cpu.cfs_quota_us", "cpu.max", quota, v2+" "+period)
	if !l.v2 {
		l.want("cpu", "cpu.cfs_period_us", "", period, "")
	}
}

const mib = 1 << 20

func TestUpdate(t *testing.T) {
	id := name(t)
	root, dir := newRoot(t, id), bundle(t, func(s *specs.Spec) { s.Linux.CgroupsPath = "/" + id })
	l := limitsOf(t, id)
	update := func(want string, args ...string) {
		t.Helper()
		if want != "" {
			want = "vitrun: " + want + "\n"
		}
		expect(t, root, want, min(len(want), 1), append(append([]string{"update"}, args...), id)...)
	}
	update("container does not exist", "--memory", "64m")
	expect(t, root, "", 0, "create", "-b", dir, id)
	defer vitrun(t, root, "delete", "--force", id)
	update("", "--memory", "64m", "--memory-swap=128MiB", "--pids-limit", "30", "--cpu-quota", "20000", "--cpu-share", "512")
	l.memory(64*mib, 128*mib)
	l.want("pids", "pids.max", "pids.max", "30", "30")
	l.want("cpu", "cpu.shares", "cpu.weight", "512", "59")
	if _, err := os.Stat(l.path("cpuset", "cpuset.cpus")); err == nil {
		update("", "--cpuset-cpus", "0")
		l.want("cpuset", "cpuset.cpus", "cpuset.cpus", "0", "0")
	} else {
		out, code := vitrun(t, root, "update", "--cpuset-cpus", "0", id)
		if code != 1 || !strings.HasPrefix(out, "vitrun: linux.resources.cpu.cpus: the cpuset controller is not available here") {
			t.Errorf("%d %q", code, out)
		}
	}
	l.cpu("20000", "100000")
	expect(t, root, "", 0, "start", id)

	update("", "--memory", "100m") // between memory and memory+swap
	if l.v2 {
		l.memory(100*mib, 164*mib)
	} else {
		l.memory(100*mib, 128*mib)
		update("linux.resources.memory.limit: 209715200 is above the memory+swap limit 134217728, which has to be set too", "--memory", "200m")
	}
	update("", "--memory", "256m", "--memory-swap", "300m") // both up: memory+swap goes first
	l.memory(256*mib, 300*mib)
	update("", "--memory", "32m", "--memory-swap", "40m") // both down: memory goes first
	l.memory(32*mib, 40*mib)
	update("", "--memory-swap", "48m")
	l.memory(32*mib, 48*mib)
	update("linux.resources.memory.swap: memory+swap limit should be >= memory limit", "--memory-swap", "16m")
	update("", "--cpu-period", "50000")
	l.cpu("20000", "50000")
	update("", "--cpu-quota", "30000")
	l.cpu("30000", "50000")
	update("", "--cpu-quota", "-1")
	l.cpu("-1", "50000")

	// One that the kernel refuses leaves nothing changed.
	out, code := vitrun(t, root, "update", "--pids-limit", "7", "--memory", "24m", "--cpu-quota", "5000", "--cpu-burst", "900000", id)
	if code != 1 || !strings.HasPrefix(out, "vitrun: linux.resources.cpu.burst: write 900000 to ") && !strings.HasPrefix(out, "vitrun: linux.resources.cpu.quota: write ") {
		t.Errorf("%d %q", code, out)
	}
	l.memory(32*mib, 48*mib)
	l.cpu("-1", "50000")
	l.want("pids", "pids.max", "pids.max", "30", "30")

	// A paused one, by a file. What is 0 stays.
	expect(t, root, "", 0, "pause", id)
	file := filepath.Join(dir, "resources.json")
	must(t, os.WriteFile(file, []byte(`{"memory": {"limit": 50331648, "swap": -1, "reservation": 0}, "cpu": {"quota": 0, "cpus": ""}, "pids": {"limit": 40}, "blockIO": {"weight": 0}}`), 0o600))
	update("", "-r", file)
	l.memory(48*mib, -1)
	l.want("pids", "pids.max", "pids.max", "40", "40")
	expect(t, root, "vitrun: exec failed: cannot exec in a paused container (use --ignore-paused to override)\n", 255, "exec", id, "true")
	expect(t, root, "vitrun: container not running\n", 1, "pause", id)
	expect(t, root, "", 0, "resume", id)
	expect(t, root, "vitrun: container not paused\n", 1, "resume", id)
	update("", "--memory", "-1")
	l.memory(-1, -1)

	// It is in the record, for who comes later.
	var s specs.Spec
	b, _ := os.ReadFile(filepath.Join(root, id, "config.json"))
	must(t, json.Unmarshal(b, &s))
	r := s.Linux.Resources
	if *r.Memory.Limit != -1 || *r.Memory.Swap != -1 || *r.Pids.Limit != 40 || *r.CPU.Period != 50000 || len(r.Devices) == 0 {
		t.Errorf("record: %s", b)
	}
	expect(t, root, "", 0, "pause", id) // delete --force ends it nevertheless
	expect(t, root, "", 0, "delete", "--force", id)
}

func TestUpdateRefuses(t *testing.T) {
	id := name(t)
	root, dir := newRoot(t, id), bundle(t, func(s *specs.Spec) { s.Linux.CgroupsPath = "/" + id })
	expect(t, root, "", 0, "run", "-d", "-b", dir, id)
	defer vitrun(t, root, "delete", "--force", id)
	see := "\nSee 'vitrun update --help'.\n"
	for flag, want := range map[string]string{
		"--blkio-weight=10":       `vitrun: invalid value "10" for flag -blkio-weight: not supported yet` + see,
		"--l3-cache-schema=L3:0=": `vitrun: invalid value "L3:0=" for flag -l3-cache-schema: not supported yet` + see,
		"--mem-bw-schema=MB:0=20": `vitrun: invalid value "MB:0=20" for flag -mem-bw-schema: not supported yet` + see,
		"--memory=lots":           `vitrun: invalid value "lots" for flag -memory: not a size` + see,
		"--cpu-share=-1":          `vitrun: invalid value "-1" for flag -cpu-share: not a number` + see,
		"--kernel-memory=1m":      "vitrun: flag provided but not defined: -kernel-memory" + see,
		"--memory=-5":             `vitrun: invalid value "-5" for flag -memory: not a size` + see,
		"--pids-limit=-2":         "vitrun: linux.resources.pids.limit: invalid value -2\n",
		"--blkio-weight=0":        "",
	} {
		expect(t, root, want, min(len(want), 1), "update", flag, id)
	}
	file := filepath.Join(dir, "r.json")
	for content, want := range map[string]string{
		`{"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}`:  "linux.resources.hugepageLimits: not supported",
		`{"blockIO": {"weight": 10}}`:                            "linux.resources.blockIO: not supported",
		`{"memory": {"limit": 4096, "checkBeforeUpdate": true}}`: "linux.resources.memory.limit: 4096 is below what is in use: #",
		`{"memory": []}`: "--resources: memory: want an object, got an array (offset 11)",
	} {
		must(t, os.WriteFile(file, []byte(content), 0o600))
		out, code := vitrun(t, root, "update", "--resources", file, id)
		if got := regexp.MustCompile(`: \d+\n`).ReplaceAllString(out, ": #\n"); code != 1 || got != "vitrun: "+want+"\n" {
			t.Errorf("%s: %d %q", content, code, out)
		}
	}
	expect(t, root, "vitrun: --resources and other options exclude each other\n", 1, "update", "-r", file, "--memory", "1g", id)
}

func TestEvents(t *testing.T) {
	id := name(t)
	root, dir := newRoot(t, id), bundle(t, func(s *specs.Spec) {
		s.Linux.CgroupsPath = "/" + id
		n := int64(64 * mib)
		s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &n}
	})
	expect(t, root, "", 0, "run", "-d", "-b", dir, id)
	defer vitrun(t, root, "delete", "--force", id)
	out, code := vitrun(t, root, "events", "--stats", id)
	var e struct {
		Type, ID string
		Data     struct {
			CPU    struct{ Usage struct{ Total uint64 } }
			Memory struct{ Usage struct{ Limit, Usage uint64 } }
			Pids   struct{ Current uint64 }
		}
	}
	if err := json.Unmarshal([]byte(out), &e); err != nil || code != 0 || e.Type != "stats" || e.ID != id || e.Data.CPU.Usage.Total == 0 ||
		e.Data.Memory.Usage.Limit != 64*mib || e.Data.Memory.Usage.Usage == 0 || e.Data.Pids.Current != 1 {
		t.Errorf("%d %v %s", code, err, out)
	}
	cmd := exec.Command(binary, "--root", root, "events", "--interval", "10ms", id)
	pipe, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	buf := make([]byte, 1)
	_, _ = pipe.Read(buf)
	expect(t, root, "", 0, "delete", "--force", id)
	for err = nil; err == nil; _, err = pipe.Read(buf) {
	}
	must(t, cmd.Wait()) // it ends with the container
	expect(t, root, "vitrun: container does not exist\n", 1, "events", "--stats", id)
}

// A static program runs under 512 KiB; a limit that cannot do is refused, and what the refusal names does.
func TestSmallMemory(t *testing.T) {
	id := name(t)
	root := newRoot(t, id)
	run := func(limit int64, cmd ...string) (string, int) {
		dir := bundle(t, func(s *specs.Spec) {
			s.Linux.CgroupsPath = "/" + id
			s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
			s.Process.Args = []string{"true"}
		})
		return vitrun(t, root, append(cmd, "-b", dir, id)...)
	}
	if out, code := run(512<<10, "run"); out != "" || code != 0 {
		t.Errorf("512 KiB: %d %q", code, out)
	}
	for _, cmd := range []string{"run", "create"} {
		out, code := run(16<<10, cmd)
		m := regexp.MustCompile(`^vitrun ` + cmd + ` failed: unable to start container process: container init was OOM-killed \(memory limit too low\?\): ` +
			`linux.resources.memory.limit: 16384 is too small, the smallest that starts it here is (\d+)\n$`).FindStringSubmatch(out)
		if m == nil || code != 1 {
			t.Fatalf("%s with 16 KiB: %d %q", cmd, code, out)
		}
		need, _ := strconv.ParseInt(m[1], 10, 64)
		if need <= 16<<10 || need > 512<<10 {
			t.Errorf("the smallest: %d", need)
		}
		for range 6 {
			if out, code := run(need, "run"); out != "" || code != 0 {
				t.Errorf("%d, which was named: %d %q", need, code, out)
			}
		}
	}
	if left, _ := filepath.Glob("/sys/fs/cgroup/*/vitrun-try*"); left != nil {
		t.Error(left)
	}
}
