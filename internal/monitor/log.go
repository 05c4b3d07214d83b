package monitor

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

// Limits of the log; Docker has the same sizes where it is told to rotate, and no limit by default.
const (
	LogMaxSize  = 10 << 20 // bytes of one file
	LogMaxFiles = 3        // the current one and older ones: PATH, PATH.1, PATH.2
	partSize    = 16 << 10 // bytes of a line's part
)

// Entry is one line of the log.
type Entry struct {
	Log    string    `json:"log"`
	Stream string    `json:"stream"`
	Time   time.Time `json:"time"`
}

// Log writes a container's log. Its Stream writers may be used at once.
type Log struct {
	path string
	max  int64
	now  func() time.Time

	mu   sync.Mutex
	f    *os.File
	size int64
	buf  []byte
}

// OpenLog opens the log at path; the file is made by the first line.
func OpenLog(path string) *Log { return &Log{path: path, max: LogMaxSize, now: time.Now} }

// Stream is the writer of one stream. It keeps an unfinished line back until the newline, partSize bytes, or Flush.
func (l *Log) Stream(name string) *LogStream { return &LogStream{l: l, name: name} }

// LogStream is an io.Writer for stdout or stderr.
type LogStream struct {
	l    *Log
	name string
	line []byte
}

func (s *LogStream) Write(p []byte) (int, error) {
	n := len(p)
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	s.l.buf = s.l.buf[:0]
	now := s.l.now()
	for len(p) > 0 {
		cut := bytes.IndexByte(p, '\n') + 1
		if cut == 0 {
			cut = len(p)
		}
		cut = min(cut, partSize-len(s.line))
		s.line = append(s.line, p[:cut]...)
		p = p[cut:]
		if len(s.line) == partSize || s.line[len(s.line)-1] == '\n' {
			s.flushLine(now)
		}
	}
	return n, s.l.commit()
}

// Flush writes an unfinished line.
func (s *LogStream) Flush() error {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	s.l.buf = s.l.buf[:0]
	if len(s.line) > 0 {
		s.flushLine(s.l.now())
	}
	return s.l.commit()
}

func (s *LogStream) flushLine(now time.Time) {
	s.l.buf = appendEntry(s.l.buf, s.line, s.name, now)
	s.line = s.line[:0]
}

func (l *Log) commit() error {
	if len(l.buf) == 0 {
		return nil
	}
	if l.f != nil && l.size+int64(len(l.buf)) > l.max {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	if l.f == nil {
		f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
		if err != nil {
			return err
		}
		l.f, l.size = f, 0
	}
	n, err := l.f.Write(l.buf)
	l.size += int64(n)
	return err
}

// rotate makes PATH.1 of PATH and so on; the oldest is overwritten.
func (l *Log) rotate() error {
	l.f.Close()
	l.f = nil
	for i := LogMaxFiles - 1; i > 0; i-- {
		if err := os.Rename(logName(l.path, i-1), logName(l.path, i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func logName(path string, i int) string {
	if i == 0 {
		return path
	}
	return path + "." + strconv.Itoa(i)
}

// Close closes the file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	return l.f.Close()
}

// appendEntry encodes one line. Bytes that are not UTF-8 become U+FFFD, as encoding/json has it.
func appendEntry(b, line []byte, stream string, now time.Time) []byte {
	b = append(b, `{"log":"`...)
	const hex = "0123456789abcdef"
	for i := 0; i < len(line); {
		c := line[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRune(line[i:])
			switch {
			case r == utf8.RuneError && n == 1:
				b = append(b, `\ufffd`...)
			case r == '\u2028' || r == '\u2029':
				b = append(b, `\u202`...)
				b = append(b, hex[r&15])
			default:
				b = append(b, line[i:i+n]...)
			}
			i += n
			continue
		}
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c == '\t':
			b = append(b, '\\', 't')
		case c < ' ' || c == '<' || c == '>' || c == '&':
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
		i++
	}
	b = append(b, `","stream":"`...)
	b = append(b, stream...)
	b = append(b, `","time":"`...)
	b = now.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, "\"}\n"...)
}

// ReadOptions say what of a log to read.
type ReadOptions struct {
	Tail         int           // the last lines only; negative for all
	Since, Until time.Time     // entries of this time only; zero: all
	Follow       func() bool   // asked at the end of the file; true: more may come
	Poll         time.Duration // between looks at the end, 50 ms if 0
}

// ReadLog calls f for each entry, oldest file first. A line that is being written or was cut off by a crash is skipped.
func ReadLog(path string, o ReadOptions, f func(Entry) error) error {
	old, err := oldEntries(path, o.Tail)
	if err != nil {
		return err
	}
	r := &reader{path: path}
	defer r.close()
	current, err := r.more()
	if err != nil {
		return err
	}
	all := append(old, current...)
	if o.Tail >= 0 {
		all = all[max(0, len(all)-o.Tail):]
	}
	for {
		for _, e := range all {
			if e.Time.Before(o.Since) {
				continue
			}
			if !o.Until.IsZero() && e.Time.After(o.Until) {
				return nil
			}
			if err := f(e); err != nil {
				return err
			}
		}
		if o.Follow == nil {
			return nil
		}
		going := o.Follow() // before the read, so that what was written before the end is read
		if all, err = r.more(); err != nil {
			return err
		}
		if len(all) == 0 {
			if !going || !o.Until.IsZero() && time.Now().After(o.Until) {
				return nil
			}
			time.Sleep(max(o.Poll, 50*time.Millisecond))
		}
	}
}

func oldEntries(path string, tail int) (out []Entry, err error) {
	for i := LogMaxFiles - 1; i > 0 && tail != 0; i-- {
		r := &reader{path: logName(path, i)}
		es, err := r.more()
		r.close()
		if err != nil {
			return nil, err
		}
		out = append(out, es...)
		if tail > 0 {
			out = out[max(0, len(out)-tail):]
		}
	}
	return out, nil
}

// reader reads one log file as it grows, and goes on with the next when it is rotated away.
type reader struct {
	path string
	f    *os.File
	rest []byte // of a line without its end
}

func (r *reader) more() (out []Entry, err error) {
	if r.f == nil {
		if r.f, err = os.Open(r.path); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
	}
	rotated := r.rotated() // before the read: what follows it is in the new file
	br := bufio.NewReaderSize(r.f, 64<<10)
	for {
		line, err := br.ReadBytes('\n')
		r.rest = append(r.rest, line...)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("log %s: %w", r.path, err)
		}
		var e Entry
		if json.Unmarshal(r.rest, &e) == nil {
			out = append(out, e)
		}
		r.rest = r.rest[:0]
	}
	if rotated {
		r.close()
	}
	return out, nil
}

func (r *reader) rotated() bool {
	have, err1 := r.f.Stat()
	now, err2 := os.Stat(r.path)
	return err1 == nil && err2 == nil && !os.SameFile(have, now)
}

func (r *reader) close() {
	if r.f != nil {
		r.f.Close()
	}
	r.f, r.rest = nil, nil
}
