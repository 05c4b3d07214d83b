package explain

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// attachedPrograms counts the device programs of a cgroup's folder.
func attachedPrograms(fd int) int {
	r, err := link.QueryPrograms(link.QueryOptions{Target: fd, Attach: ebpf.AttachCGroupDevice})
	if err != nil {
		return 0
	}
	return len(r.Programs)
}

func securebits(pid int) (uint32, error) { return 0, ebpf.ErrNotSupported }
