package explain

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// attachedPrograms counts the device programs of a cgroup's folder.
func attachedPrograms(fd int) int {
	r, err := link.QueryPrograms(link.QueryOptions{Target: fd, Attach: ebpf.AttachCGroupDevice})
	if err != nil {
		return 0
	}
	return len(r.Programs)
}

// readSecurebits is nil if they cannot be had.
func readSecurebits(pid int) *Securebits {
	const firstPIDNS = 0xEFFFFFFC // PROC_PID_INIT_INO: what a BPF iterator's pids are of
	var st unix.Stat_t
	if unix.Stat("/proc/self/ns/pid", &st) != nil || st.Ino != firstPIDNS {
		return nil
	}
	bits, err := securebits(pid)
	if err != nil {
		return nil
	}
	return newSecurebits(bits)
}

// securebits reads a process's securebits, which /proc does not show: by a BPF iterator over the tasks (Linux 5.8) that is
// gone when it has been read. The pid is of the first pid namespace. The calls are made here and BTF is only
// searched, since ebpf.NewProgram would decode all of the kernel's: 100 ms.
func securebits(pid int) (uint32, error) {
	k, err := readBTF()
	if err != nil {
		return 0, err
	}
	var code bytes.Buffer
	if err := securebitsProgram(pid, k).Marshal(&code, binary.LittleEndian); err != nil {
		return 0, err
	}
	prog, err := loadIterator(code.Bytes(), k.iter)
	if err != nil {
		return 0, err
	}
	defer unix.Close(prog)
	const linkCreate, iterCreate, traceIter = 28, 33, 28
	create := [16]uint32{uint32(prog), 0, traceIter}
	linkFD, err := bpf(linkCreate, unsafe.Pointer(&create), unsafe.Sizeof(create))
	if err != nil {
		return 0, err
	}
	defer unix.Close(linkFD)
	iter := [2]uint32{uint32(linkFD)}
	fd, err := bpf(iterCreate, unsafe.Pointer(&iter), unsafe.Sizeof(iter))
	if err != nil {
		return 0, err
	}
	f := os.NewFile(uintptr(fd), "bpf iterator")
	defer f.Close()
	b, err := io.ReadAll(f)
	if err == nil && len(b) < 4 {
		err = unix.ESRCH
	}
	if err != nil {
		return 0, err
	}
	return binary.NativeEndian.Uint32(b), nil
}

// securebitsProgram writes task->cred->securebits of one task to the iterator's file.
func securebitsProgram(pid int, k kernelTypes) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R6, asm.R1, 8, asm.DWord), // struct bpf_iter__task: meta, task
		asm.LoadMem(asm.R7, asm.R1, 0, asm.DWord),
		asm.JEq.Imm(asm.R6, 0, "out"),
		asm.LoadMem(asm.R1, asm.R6, k.pid, asm.Word),
		asm.JNE.Imm(asm.R1, int32(pid), "out"),
		asm.LoadMem(asm.R1, asm.R6, k.cred, asm.DWord),
		asm.LoadMem(asm.R1, asm.R1, k.securebits, asm.Word),
		asm.StoreMem(asm.RFP, -4, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, asm.R7, 0, asm.DWord), // meta->seq
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.Mov.Imm(asm.R3, 4),
		asm.FnSeqWrite.Call(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("out"),
		asm.Return(),
	}
}

// loadIterator is BPF_PROG_LOAD of a BPF_PROG_TYPE_TRACING program for BPF_TRACE_ITER.
func loadIterator(code []byte, target uint32) (int, error) {
	license := []byte("GPL\x00")
	attr := struct {
		progType, count             uint32
		code, license               unsafe.Pointer
		logLevel, logSize           uint32
		log                         uint64
		kernel, flags               uint32
		name                        [16]byte
		ifindex, attach             uint32
		btf, funcSize               uint32
		funcs                       uint64
		funcCount, lineSize         uint32
		lines                       uint64
		lineCount, attachBTF, fd, _ uint32
	}{
		progType: 26, count: uint32(len(code) / 8), code: unsafe.Pointer(&code[0]),
		license: unsafe.Pointer(&license[0]), attach: 28, attachBTF: target,
	}
	const progLoad = 5
	return bpf(progLoad, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
}

func bpf(cmd uintptr, attr unsafe.Pointer, size uintptr) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_BPF, cmd, uintptr(attr), size)
	if errno != 0 {
		return 0, errno
	}
	return int(fd), nil
}

// kernelTypes is what securebits needs of the kernel's BTF: offsets in bytes, and the id of bpf_iter_task.
type kernelTypes struct {
	pid, cred, securebits int16
	iter                  uint32
}

var errBTF = errors.New("the kernel's BTF does not have it")

// readBTF maps the file, which Linux has since 6.16, or reads it.
func readBTF() (kernelTypes, error) {
	f, err := os.Open("/sys/kernel/btf/vmlinux")
	if err != nil {
		return kernelTypes{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return kernelTypes{}, err
	}
	if b, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_POPULATE); err == nil {
		defer unix.Munmap(b)
		return parseBTF(b)
	}
	b := make([]byte, st.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return kernelTypes{}, err
	}
	return parseBTF(b)
}

// parseBTF looks at the strings, then walks the types (Documentation/bpf/btf.rst).
func parseBTF(b []byte) (k kernelTypes, err error) {
	u32 := func(b []byte, i int) uint32 { return binary.NativeEndian.Uint32(b[i:]) }
	if len(b) < 24 || binary.NativeEndian.Uint16(b) != 0xeb9f {
		return k, errBTF
	}
	section := func(off, size int) []byte {
		from := uint64(u32(b, 4)) + uint64(u32(b, off))
		to := from + uint64(u32(b, size))
		if to > uint64(len(b)) {
			return nil
		}
		return b[from:to]
	}
	names, err := findStrings(section(16, 20), "task_struct", "cred", "bpf_iter_task", "pid", "securebits")
	if err != nil {
		return k, err
	}
	k.pid, k.cred, k.securebits = -1, -1, -1
	task, cred, iter, pid, bits := names[0], names[1], names[2], names[3], names[4]
	const kindStruct, kindFunc = 4, 12
	types := section(8, 12)
	for id := uint32(1); len(types) >= 12; id++ {
		name, info := u32(types, 0), u32(types, 4)
		kind, size := info>>24&31, extra(info>>24&31, int(info&0xffff))
		if types = types[12:]; size > len(types) {
			return k, errBTF
		}
		if kind == kindFunc && name == iter {
			k.iter = id
		}
		if kind == kindStruct && (name == task || name == cred) {
			for members := types[:size]; len(members) >= 12; members = members[12:] {
				off := int16(u32(members, 8) & 0xffffff / 8)
				switch m := u32(members, 0); {
				case name == task && m == pid:
					k.pid = off
				case name == task && m == cred:
					k.cred = off
				case name == cred && m == bits:
					k.securebits = off
				}
			}
		}
		types = types[size:]
	}
	if k.iter == 0 || k.pid < 0 || k.cred < 0 || k.securebits < 0 {
		return k, errBTF
	}
	return k, nil
}

// extra is the size of what follows a type of a kind.
func extra(kind uint32, n int) int {
	switch kind {
	case 1, 14, 17: // int, var, decl_tag
		return 4
	case 3: // array
		return 12
	case 4, 5, 15, 19: // struct, union, datasec, enum64
		return 12 * n
	case 6, 13: // enum, func_proto
		return 8 * n
	}
	return 0
}

// findStrings gives the offsets of whole strings.
func findStrings(b []byte, want ...string) ([]uint32, error) {
	out := make([]uint32, len(want))
	for i, w := range want {
		at := bytes.Index(b, []byte("\x00"+w+"\x00"))
		if at < 0 {
			return nil, errBTF
		}
		out[i] = uint32(at + 1)
	}
	return out, nil
}
