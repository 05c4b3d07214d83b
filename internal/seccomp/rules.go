package seccomp

import (
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// SECCOMP_RET_* of linux/seccomp.h; the low 16 bits are the errno, or the message for the tracer.
const (
	retKillThread  = 0x00000000
	retTrap        = 0x00030000
	retErrno       = 0x00050000
	retTrace       = 0x7ff00000
	retLog         = 0x7ffc0000
	retAllow       = 0x7fff0000
	retKillProcess = 0x80000000

	ePERM  = 1
	eNOSYS = 38

	retENOSYS = retErrno | eNOSYS
)

// SECCOMP_FILTER_FLAG_* of linux/seccomp.h.
const (
	flagTsync     = 1 << 0
	flagLog       = 1 << 1
	flagSpecAllow = 1 << 2
)

// maxArgs is the number of system call arguments that a filter sees.
const maxArgs = 6

// cmpOp is a comparison of an argument; opNone is no comparison.
type cmpOp uint8

const (
	opNone cmpOp = iota
	opNE
	opLT
	opLE
	opEQ
	opGE
	opGT
	opMasked
)

// cond is one comparison: arg op val, or arg&mask == val for opMasked (mask is all ones otherwise).
type cond struct {
	arg       uint8
	op        cmpOp
	val, mask uint64
}

// rule is an action for the calls that fulfil all of conds, which are sorted by argument.
type rule struct {
	ret   uint32
	entry int32 // index in linux.seccomp.syscalls, for messages
	conds []cond
}

// fieldError names the config field that is wrong; prefix and reason are joined only when it is printed.
type fieldError struct{ field, reason string }

func (e *fieldError) Error() string { return "linux.seccomp." + e.field + ": " + e.reason }

func entryField(i int, field string) string {
	return "syscalls[" + strconv.Itoa(i) + "]." + field
}

// Actions returns the actions that Compile knows, sorted.
func Actions() []string {
	return []string{
		"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
		"SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
	}
}

// actionField names the action or errno field of an entry, or the default ones for entry -1.
func actionField(entry int, field, defaultField string) string {
	if entry < 0 {
		return defaultField
	}
	return entryField(entry, field)
}

// parseAction returns the filter's return value for the action of an entry, or for the default one (entry -1).
func parseAction(act specs.LinuxSeccompAction, errno *uint, entry int) (uint32, error) {
	ret, takesErrno := uint32(0), false
	switch act {
	case specs.ActKill, specs.ActKillThread:
		ret = retKillThread
	case specs.ActKillProcess:
		ret = retKillProcess
	case specs.ActTrap:
		ret = retTrap
	case specs.ActErrno:
		ret, takesErrno = retErrno, true
	case specs.ActTrace:
		ret, takesErrno = retTrace, true
	case specs.ActLog:
		ret = retLog
	case specs.ActAllow:
		ret = retAllow
	case specs.ActNotify:
		return 0, &fieldError{actionField(entry, "action", "defaultAction"), "SCMP_ACT_NOTIFY is not supported"}
	default:
		return 0, &fieldError{actionField(entry, "action", "defaultAction"), "unknown action " + strconv.Quote(string(act))}
	}
	switch {
	case errno == nil && takesErrno:
		ret |= ePERM
	case errno == nil:
	case !takesErrno: // config-linux.md: the runtime MUST fail
		return 0, &fieldError{actionField(entry, "errnoRet", "defaultErrnoRet"), string(act) + " takes no errno"}
	case *errno > 0xffff:
		return 0, &fieldError{actionField(entry, "errnoRet", "defaultErrnoRet"), strconv.FormatUint(uint64(*errno), 10) + " is above 65535"}
	default:
		ret |= uint32(*errno)
	}
	return ret, nil
}

// Operators returns the comparison operators that Compile knows, sorted.
func Operators() []string {
	return []string{
		"SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE",
	}
}

func parseOperator(op specs.LinuxSeccompOperator) cmpOp {
	switch op {
	case specs.OpNotEqual:
		return opNE
	case specs.OpLessThan:
		return opLT
	case specs.OpLessEqual:
		return opLE
	case specs.OpEqualTo:
		return opEQ
	case specs.OpGreaterEqual:
		return opGE
	case specs.OpGreaterThan:
		return opGT
	case specs.OpMaskedEqual:
		return opMasked
	}
	return opNone
}

// Flags returns the flags that Compile knows, sorted.
func Flags() []string {
	return []string{
		"SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC",
		"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
	}
}

func parseFlags(flags []specs.LinuxSeccompFlag) (uint32, error) {
	bits := uint32(0)
	for i, f := range flags {
		switch f {
		case "SECCOMP_FILTER_FLAG_TSYNC": // not in the runtime spec, but runc takes it
			bits |= flagTsync
		case specs.LinuxSeccompFlagLog:
			bits |= flagLog
		case specs.LinuxSeccompFlagSpecAllow:
			bits |= flagSpecAllow
		case specs.LinuxSeccompFlagWaitKillableRecv:
			// Says how a thread waits for a listener. There is none without SCMP_ACT_NOTIFY, and the kernel
			// then refuses the bit with EINVAL, so it is left out.
		default:
			return 0, &fieldError{"flags[" + strconv.Itoa(i) + "]", "unknown flag " + strconv.Quote(string(f))}
		}
	}
	return bits, nil
}

// parseArgs returns the conditions of an entry as one rule or, when two conditions are on the same argument, as one
// rule for each (they are alternatives then: runc and crun kept that from the days before libseccomp could AND).
func (c *compiler) parseArgs(entry int, args []specs.LinuxSeccompArg) (conds []cond, split bool, err error) {
	start := len(c.conds)
	seen := [maxArgs]bool{}
	for i := range args {
		a := &args[i]
		cond := cond{arg: uint8(a.Index), op: parseOperator(a.Op), val: a.Value, mask: ^uint64(0)}
		if a.Index >= maxArgs {
			return nil, false, &fieldError{
				entryField(entry, "args["+strconv.Itoa(i)+"].index"),
				strconv.FormatUint(uint64(a.Index), 10) + " is above 5",
			}
		}
		if cond.op == opNone {
			return nil, false, &fieldError{
				entryField(entry, "args["+strconv.Itoa(i)+"].op"), "unknown operator " + strconv.Quote(string(a.Op)),
			}
		}
		if cond.op == opMasked {
			cond.mask, cond.val = a.Value, a.ValueTwo&a.Value
		}
		split = split || seen[cond.arg]
		seen[cond.arg] = true
		c.conds = append(c.conds, cond)
	}
	conds = c.conds[start:len(c.conds):len(c.conds)]
	if !split {
		sortByArg(conds)
	}
	return conds, split, nil
}

func sortByArg(conds []cond) {
	for i := range conds {
		for j := i; j > 0 && conds[j].arg < conds[j-1].arg; j-- {
			conds[j], conds[j-1] = conds[j-1], conds[j]
		}
	}
}
