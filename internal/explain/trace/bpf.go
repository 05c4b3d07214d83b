package trace

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

//go:generate clang -O2 -g -target bpf -Wall -fdebug-compilation-dir=. -I/usr/include/x86_64-linux-gnu -c exec.bpf.c -o exec.bpf.o
//go:generate llvm-strip -g exec.bpf.o

//go:embed exec.bpf.o
var object []byte

type bpfSource struct {
	coll   *ebpf.Collection
	link   link.Link
	reader *ringbuf.Reader
	record ringbuf.Record
	epoch  time.Time // when CLOCK_MONOTONIC was 0
}

func openBPF(o Options) (_ source, err error) {
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		return nil, err
	}
	if err := spec.Variables["only_pidns"].Set(uint32(o.PIDNS)); err != nil {
		return nil, err
	}
	s := &bpfSource{epoch: epoch()}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.coll, err = ebpf.NewCollection(spec); err != nil {
		return nil, err
	}
	if s.reader, err = ringbuf.NewReader(s.coll.Maps["events"]); err != nil {
		return nil, err
	}
	s.link, err = link.AttachRawTracepoint(link.RawTracepointOptions{Name: "sched_process_exec", Program: s.coll.Programs["on_exec"]})
	return s, err
}

// epoch translates CLOCK_MONOTONIC; a clock that is set later does not move events.
func epoch() time.Time {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail
	return time.Now().Add(-time.Duration(ts.Nano()))
}

func (s *bpfSource) read(deadline time.Time) (Event, bool, error) {
	s.reader.SetDeadline(deadline)
	err := s.reader.ReadInto(&s.record)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return Event{}, false, nil
	}
	if err != nil {
		return Event{}, false, err
	}
	e, err := parseEvent(s.record.RawSample, s.epoch)
	return e, err == nil, err
}

// Offsets of struct event (exec.bpf.c).
const (
	offComm   = 40
	offGroup  = offComm + 16
	offGroup1 = offGroup + 96
	offArgs   = offGroup1 + 96
	maxArgs   = 1024
)

func parseEvent(b []byte, epoch time.Time) (Event, error) {
	if len(b) < offArgs+maxArgs {
		return Event{}, fmt.Errorf("event of %d bytes: too short", len(b))
	}
	u32 := func(i int) uint32 { return binary.NativeEndian.Uint32(b[8+4*i:]) }
	size := min(u32(5), maxArgs)
	e := Event{
		Time: epoch.Add(time.Duration(binary.NativeEndian.Uint64(b))),
		PID:  int(u32(0)), Inner: int(u32(1)), PPID: int(u32(2)), UID: u32(3), PIDNS: uint64(u32(4)),
		Name: cString(b[offComm:offGroup]), Cgroup: cString(b[offGroup:offGroup1]),
		Command: arguments(b[offArgs : offArgs+size]), Cut: u32(6) > size && size > 0,
	}
	if v1 := cString(b[offGroup1:offArgs]); strings.Trim(e.Cgroup, "/") == "" {
		e.Cgroup = v1
	}
	if e.Command == "" {
		e.Command = "[" + e.Name + "]"
	}
	return e, nil
}

func cString(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

func arguments(b []byte) string {
	return strings.TrimRight(string(bytes.ReplaceAll(b, []byte{0}, []byte{' '})), " ")
}

func (s *bpfSource) lost() uint64 {
	var n uint64
	_ = s.coll.Maps["lost"].Lookup(uint32(0), &n) // an array has all its keys
	return n
}

func (s *bpfSource) close() error {
	var errs []error
	if s.link != nil {
		errs = append(errs, s.link.Close())
	}
	if s.reader != nil {
		errs = append(errs, s.reader.Close())
	}
	if s.coll != nil {
		s.coll.Close()
	}
	return errors.Join(errs...)
}
