package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

func (f *Facts) processes(p *printer) {
	if f.Processes == nil { // not asked for
		return
	}
	p.title("processes", fmt.Sprintf("%d, found by %s", len(f.Processes), f.Basis))
	nested := 1
	for _, pr := range f.Processes {
		nested = max(nested, len(pr.PIDs))
	}
	head := []string{"PID"}
	for i := 1; i < nested; i++ {
		head = append(head, "PID INSIDE"[:min(10, 3+7*(nested-i))])
	}
	head = append(head, "USER INSIDE", "OUTSIDE", "STATE", "COMMAND")
	var rows [][]cell
	for _, pr := range f.Processes {
		r := row(c(pr.PID))
		for i := 1; i < nested; i++ {
			if i < len(pr.PIDs) {
				r = append(r, c(pr.PIDs[i]))
			} else {
				r = append(r, c("-"))
			}
		}
		rows = append(rows, append(r, c(user(pr.InsideUID, pr.UserInside)), c(user(pr.UID[1], pr.UserOutside)), stateCell(pr.State),
			c(strings.Repeat("  ", min(pr.Depth, 20)), pr.Command)))
	}
	p.table(head, rows)
}

func user(id uint32, name string) string {
	if name == "" {
		return strconv.FormatUint(uint64(id), 10)
	}
	return fmt.Sprintf("%d (%s)", id, name)
}

// stateCell takes the word of "S (sleeping)".
func stateCell(s string) cell {
	_, word, _ := strings.Cut(s, "(")
	word = strings.TrimSuffix(word, ")")
	switch {
	case strings.HasPrefix(s, "R"):
		return cs(green, word)
	case strings.HasPrefix(s, "Z"), strings.HasPrefix(s, "D"):
		return cs(red, word)
	case strings.HasPrefix(s, "T"), strings.HasPrefix(s, "t"):
		return cs(yellow, word)
	}
	return c(word)
}

func (f *Facts) namespaces(p *printer) {
	if f.Namespaces == nil {
		return
	}
	p.title("namespaces")
	var rows [][]cell
	for _, n := range f.Namespaces {
		rows = append(rows, row(c(n.Kind), c(n.Inode), inode(n.Owner), inode(n.Parent), c(n.Processes), n.shared(), c(n.remarks())))
	}
	p.table([]string{"TYPE", "INODE", "OWNER USERNS", "PARENT", "PROCESSES", "SHARED", ""}, rows)
}

func inode(n uint64) cell {
	if n == 0 {
		return c("-")
	}
	return c(n)
}

func (n *Namespace) shared() cell {
	with, others := strings.Join(n.Containers, ", "), plural(n.Others, "other process")
	switch {
	case n.Host:
		return cs(yellow, "with the host")
	case with != "" && n.Others > 0:
		return cs(yellow, fmt.Sprintf("with %s, %s", with, others))
	case with != "":
		return cs(yellow, "with ", with)
	case n.Others > 0:
		return cs(yellow, "with ", others)
	}
	return cs(green, "its own")
}

func (n *Namespace) remarks() string {
	var out []string
	if n.OwnerUID != nil {
		out = append(out, fmt.Sprintf("made by uid %d", *n.OwnerUID))
	}
	if n.Children != 0 {
		out = append(out, fmt.Sprintf("children are born in %d", n.Children))
	}
	return strings.Join(out, ", ")
}

func (f *Facts) cgroup(p *printer) {
	g := f.Cgroup
	if g == nil {
		return
	}
	p.title("cgroup", g.Mode)
	p.table([]string{"HIERARCHY", "PATH"}, g.paths())
	var rows [][]cell
	for _, l := range g.Limits {
		text := c(l.Text)
		if l.Unlimited {
			text.style = dim
		}
		use := l.Use
		if use == "" {
			use = "-"
		}
		rows = append(rows, row(c(l.What), text, c(use), c(g.from(l.From)), cs(dim, l.File)))
	}
	p.table([]string{"LIMIT", "EFFECTIVE", "IN USE", "FROM", "FILE"}, rows)
	p.fields(g.rest()...)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// from shortens the commonest answer.
func (g *Cgroup) from(path string) string {
	if path != "/" && slices.ContainsFunc(g.Paths, func(p CgroupPath) bool { return p.Path == path }) {
		return "its own"
	}
	return orDash(path)
}

// paths puts hierarchies with the same path on one line.
func (g *Cgroup) paths() (rows [][]cell) {
	var order []string
	by := map[string][]string{}
	for _, h := range g.Paths {
		name, path := h.Controllers, h.Path
		if name == "" {
			name = "v2"
		}
		if h.Folder == "" {
			path += " (not to be seen from here)"
		}
		if by[path] == nil {
			order = append(order, path)
		}
		by[path] = append(by[path], name)
	}
	for _, path := range order {
		rows = append(rows, row(c(strings.Join(by[path], " ")), c(path)))
	}
	return rows
}

func (g *Cgroup) rest() (rows [][]cell) {
	count := func(n *int64) cell {
		switch {
		case n == nil:
			return c("not counted")
		case *n > 0:
			return cs(red, *n)
		}
		return c(0)
	}
	rows = append(rows, row(c("OOM kills"), count(g.OOMKills)), row(c("throttled periods"), count(g.Throttled)))
	freezer := c(g.Freezer)
	if g.Freezer != "thawed" {
		freezer.style = yellow
	}
	rows = append(rows, row(c("freezer"), freezer))
	if g.Pressure == nil {
		rows = append(rows, row(c("pressure"), c("not measured for this cgroup")))
	}
	for _, s := range g.Pressure {
		rows = append(rows, row(c(s.What, " pressure, ", s.Kind), cf("%s%% of 10 s, %s%% of 60 s, %s%% of 300 s", s.Avg10, s.Avg60, s.Avg300)))
	}
	switch {
	case g.Devices != nil:
		rows = append(rows, row(c("devices"), c(strings.Join(g.Devices, ", "))))
	case g.DevicesV2 > 0:
		rows = append(rows, row(c("devices"), cf("checked by %d BPF programs", g.DevicesV2)))
	default:
		rows = append(rows, row(c("devices"), c("not checked")))
	}
	return rows
}

func (f *Facts) capabilities(p *printer) {
	k := f.Capabilities
	if k == nil {
		return
	}
	where := ""
	if k.UserNS {
		where = "they count in its own user namespace only"
	}
	p.title("capabilities", where)
	s := k.Sets
	var rows [][]cell
	for _, v := range []struct {
		name string
		set  CapSet
	}{{"effective", s.Effective}, {"permitted", s.Permitted}, {"bounding", s.Bounding}, {"inheritable", s.Inheritable}, {"ambient", s.Ambient}} {
		rows = append(rows, row(c(v.name), cf("%016x", uint64(v.set)), c(setText(v.set))))
	}
	p.table([]string{"SET", "BITS", "CAPABILITIES"}, rows)
	rows = nil
	for _, e := range k.Extra {
		st, how := red, ""
		if !e.Permitted {
			st, how = yellow, " (in the bounding set only)"
		}
		rows = append(rows, row(cs(st, "+ ", e.Name), c(e.Allows, how)))
	}
	for _, n := range k.Missing.numbers() {
		rows = append(rows, row(cs(green, "- ", capName(n)), c("not: ", capAllows(n))))
	}
	if rows == nil {
		p.say(plain, "As Docker's default.")
	} else {
		p.table([]string{"BESIDE DOCKER'S DEFAULT", ""}, rows)
	}
	filters := "number not told by this kernel"
	if k.Filters >= 0 {
		filters = plural(k.Filters, "filter")
	}
	bits := "not to be found out here"
	if k.Securebits != nil {
		bits = fmt.Sprintf("0x%x %s", k.Securebits.Value, strings.Join(k.Securebits.Names, ","))
	}
	p.fields(row(c("no_new_privs"), c(yesNo(k.NoNewPrivs))), row(c("securebits"), c(strings.TrimSpace(bits))),
		row(c("seccomp"), c(k.Seccomp, ", ", filters)), row(c("LSM"), c(orDash(k.LSM))))
	f.otherThreads(p)
}

// otherThreads are those that may do something else than the first of their process; a screen has room for a few.
func (f *Facts) otherThreads(p *printer) {
	const shown = 8
	var rows [][]cell
	for _, t := range f.Threads[:min(shown, len(f.Threads))] {
		rows = append(rows, row(c(t.thread), c(t.PID), c(setText(t.Caps.Effective)), c(setText(t.Caps.Permitted)), c(setText(t.Caps.Bounding)), c(yesNo(t.NoNewPrivs)), c(t.Seccomp)))
	}
	if rows != nil {
		p.table([]string{"OTHER THREAD", "PID", "EFFECTIVE", "PERMITTED", "BOUNDING", "NO_NEW_PRIVS", "SECCOMP"}, rows)
	}
	if n := len(f.Threads) - shown; n > 0 {
		p.say(plain, "And %d more, in --format json.", n)
	}
	if f.Unread > 0 {
		p.say(plain, "%d threads were not read.", f.Unread)
	}
}

// setText names the capabilities, or what is missing where that is shorter.
func setText(s CapSet) string {
	all := CapSet(1)<<len(capabilities) - 1
	switch missing := all &^ s; {
	case s == 0:
		return "none"
	case missing == 0:
		return "all"
	case missing.count() < 6:
		return "all but " + strings.Join(missing.Names(), " ")
	}
	return strings.Join(s.Names(), " ")
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if strings.HasSuffix(what, "s") {
		what += "e"
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (f *Facts) mounts(p *printer) {
	m := f.Mounts
	if m == nil {
		return
	}
	p.title("mounts")
	r := m.Root
	rows := [][]cell{row(c("/ came by"), c(r.Entry, ": ", r.Why))}
	outside := orDash(r.Outside)
	switch {
	case r.Outside == "" && r.Type == "overlay":
		outside = "mounted nowhere else; its writable layer is " + orDash(r.Upper)
	case r.Outside == "":
		outside = "mounted nowhere on the host"
	case r.Proven:
		outside += " (same device and inode)"
	}
	rows = append(rows, row(c("/ inside"), cf("device %s, inode %d", orDash(r.Device), r.Inode)), row(c("/ outside"), c(outside)))
	for i, l := range r.Layers {
		name := l.Path
		if l.Digest != "" {
			name = fmt.Sprintf("%s  %s  %s", l.Digest, Bytes(l.Size), l.Path)
		}
		rows = append(rows, row(cf("layer %d", len(r.Layers)-i), c(name)))
	}
	if r.Upper != "" {
		rows = append(rows, row(c("upper"), c(r.Upper)))
	}
	p.fields(rows...)
	rows = nil
	for i := range m.Table {
		mt := &m.Table[i]
		st := plain
		if mt.Class == "bind" || mt.Class == "device" || mt.Class == "volume" {
			st = yellow
		}
		rows = append(rows, row(c(mt.Point), cs(st, mt.Class), c(mt.Type), c(mt.source()), c(strings.Join(mt.Options, ",")), c(mt.Propagation())))
	}
	p.table([]string{"MOUNT POINT", "IS", "TYPE", "SOURCE ON THE HOST", "FLAGS", "PROPAGATION"}, rows)
}

// source is the path on the host, or what else says where it is from.
func (m *Mount) source() string {
	switch {
	case m.Deleted:
		return m.Source + "[" + m.Root + "] (deleted)"
	case m.HostPath != "" && m.Type != "proc" && m.Type != "sysfs":
		return m.HostPath
	case m.Root != "/":
		return m.Source + "[" + m.Root + "]"
	}
	return "(" + m.Source + ")"
}

func (f *Facts) users(p *printer) {
	u := f.Users
	if u == nil {
		return
	}
	more := "the host's user namespace: ids are the same on both sides"
	if u.Own {
		more = "a user namespace of its own"
	}
	p.title("users", more)
	var rows [][]cell
	for _, m := range []struct {
		name string
		ids  IDMap
	}{{"uid", u.UIDs}, {"gid", u.GIDs}} {
		for _, r := range m.ids {
			rows = append(rows, row(c(m.name), c(span(r.Inside, r.Count)), c(span(r.Outside, r.Count)), c(r.Count)))
		}
		if len(m.ids) == 0 {
			rows = append(rows, row(c(m.name), c("nothing is mapped")))
		}
	}
	p.table([]string{"MAP", "INSIDE", "OUTSIDE", "COUNT"}, rows)
	rows = nil
	for _, id := range u.shown() {
		rows = append(rows, row(c(id.What), c(user(id.Inside, id.NameIn)), c(user(id.Outside, id.NameOut))))
	}
	p.table([]string{"ID", "INSIDE", "OUTSIDE"}, rows)
	if u.Setgroups != "" {
		p.fields(row(c("setgroups"), c(u.Setgroups)))
	}
}

// shown puts the four ids of a kind on one line if they are the same.
func (u *Users) shown() (out []IDPair) {
	for i, id := range u.IDs {
		kind, which, _ := strings.Cut(id.What, ", ")
		same := func(o IDPair) bool { return o.Inside == id.Inside && o.Outside == id.Outside }
		if which != "real" || i+4 > len(u.IDs) {
			if n := len(out); n == 0 || id.What == "group" || !same(out[n-1]) || out[n-1].What != kind+", all four" {
				out = append(out, id)
			}
			continue
		}
		if same(u.IDs[i+1]) && same(u.IDs[i+2]) && same(u.IDs[i+3]) {
			id.What = kind + ", all four"
		}
		out = append(out, id)
	}
	return out
}

func span(first, count uint32) string {
	if count <= 1 {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, uint64(first)+uint64(count)-1)
}

func (f *Facts) network(p *printer) {
	n := f.Network
	if n == nil {
		return
	}
	more := ""
	if n.Host {
		more = "the host's own"
	}
	p.title("network", more)
	var rows [][]cell
	for _, l := range n.Links {
		state := cs(green, "up")
		if !l.Up {
			state = cs(dim, "down")
		}
		rows = append(rows, row(cf("%d %s", l.Index, l.Name), c(l.Type), state, c(orDash(strings.Join(l.Addresses, " "))), c(l.peer())))
	}
	p.table([]string{"LINK", "TYPE", "STATE", "ADDRESSES", "OTHER END"}, rows)
	rows = routeRows("inside", n.Routes)
	rows = append(rows, routeRows("host", n.HostRoutes)...)
	if rows != nil {
		p.table([]string{"ROUTE", "TO", "VIA", "LINK", "FROM"}, rows)
	}
	if n.Forwarding != nil {
		p.fields(row(c("the host forwards"), cf("IPv4 %s, IPv6 %s", yesNo(n.Forwarding["ipv4"]), yesNo(n.Forwarding["ipv6"]))))
	}
	if n.Inside > 0 {
		more := ""
		if n.Inside == maxRules {
			more = " or more"
		}
		p.fields(row(c("rules of its own"), cf("%d%s in nf_tables of its namespace: nsenter -t %d -n nft list ruleset", n.Inside, more, f.PID)))
	}
	n.traffic(p)
}

func (n *Network) traffic(p *printer) {
	var rows [][]cell
	for _, q := range n.Ports {
		host := "*"
		if q.Host.IsValid() && !q.Host.IsUnspecified() {
			host = q.Host.String()
		}
		to := netip.AddrPortFrom(q.To, uint16(cmpPort(q)))
		rows = append(rows, row(cf("%s:%d/%s", host, q.Port, q.Protocol), c(to), c(q.Reach), cs(dim, q.How)))
	}
	if rows != nil {
		p.table([]string{"PUBLISHED", "LEADS TO", "REACHED BY", "DONE BY"}, rows)
	}
	rows = nil
	for _, s := range n.Sockets {
		who := "-"
		if s.PID != 0 {
			who = fmt.Sprintf("%d %s", s.PID, s.Process)
		}
		rows = append(rows, row(c(s.Protocol), c(s.Address), c(who)))
	}
	if rows != nil {
		p.table([]string{"LISTENS", "ADDRESS", "PROCESS"}, rows)
	}
	rows = nil
	for _, r := range n.Rules {
		packets := "-"
		if r.Packets != nil {
			packets = fmt.Sprint(*r.Packets)
		}
		rows = append(rows, row(cf("%s %s %s", r.Family, r.Table, r.Chain), cs(dim, orDash(r.Hook)), c(packets), c(r.Text)))
	}
	if rows != nil {
		p.table([]string{"RULES OF THE HOST", "HOOK", "PACKETS", "RULE"}, rows)
	}
	for _, s := range n.Notes {
		p.say(yellow, "%s", s)
	}
}

func (l *Link) peer() string {
	if l.Peer == nil {
		return "-"
	}
	s := fmt.Sprintf("%d %s on %s", l.Peer.Index, l.Peer.Name, l.Peer.Where)
	if l.Peer.Bridge != "" {
		s += ", port of " + l.Peer.Bridge
	}
	if len(l.Peer.Addresses) > 0 {
		s += " " + strings.Join(l.Peer.Addresses, " ")
	}
	return s
}

func routeRows(where string, routes []Route) (rows [][]cell) {
	for _, r := range routes {
		rows = append(rows, row(c(where), c(r.To), c(orDash(r.Via)), c(orDash(r.Link)), c(orDash(r.From))))
	}
	return rows
}

func (f *Facts) security(p *printer) {
	if f.Security == nil {
		return
	}
	p.title("security", "what it could do to the host, worst first")
	var rows [][]cell
	for i, s := range f.Security {
		st := map[Severity]style{Critical: red, High: red, Medium: yellow, Low: dim}[s.Severity]
		if p.Width > 0 { // sentences are not cut
			if p.Rows > 0 && p.begin >= p.Rows-2 {
				p.say(dim, "… %d more (--view shows all)", len(f.Security)-i)
				break
			}
			p.say(st, "%s: %s", s.Severity, s.What)
			p.say(green, "    %s", s.Flag)
			continue
		}
		rows = append(rows, row(cs(st, s.Severity), c(s.What), cs(green, s.Flag)))
	}
	if rows != nil {
		p.table([]string{"", "WHAT", "CLOSED BY"}, rows)
	}
}

// Text prints the namespaces of the machine.
func (l *List) Text(page Page) string {
	p := &printer{Page: page}
	var rows [][]cell
	for i := range l.Namespaces {
		n := &l.Namespaces[i]
		what := n.Command
		if n.FirstPID == 0 {
			what = strings.Join(n.Held, " ")
		}
		who := strings.Join(n.Containers, ", ")
		if n.Host {
			who = "(the host)"
		}
		rows = append(rows, row(c(n.Inode), c(n.Kind), c(n.Processes), c(n.FirstPID), c(n.UID), inode(n.Owner), inode(n.Parent), c(orDash(who)), c(what)))
	}
	p.table([]string{"NS", "TYPE", "NPROCS", "PID", "UID", "OWNER", "PARENT", "CONTAINER", "COMMAND"}, rows)
	if l.Processes != nil {
		p.b.WriteByte('\n')
		rows = nil
		for _, q := range l.Processes {
			rows = append(rows, row(c(q.PID), c(q.PPID), c(q.UID[1]), c(q.Threads), stateCell(q.State), c(orDash(q.Container)), c(q.Command)))
		}
		p.table([]string{"PID", "PPID", "UID", "THREADS", "STATE", "CONTAINER", "COMMAND"}, rows)
	}
	return p.b.String()
}

// CapsText prints processes and their capabilities.
func CapsText(list []*Process, page Page) string {
	p := &printer{Page: page}
	var rows [][]cell
	for _, q := range list {
		amb := ""
		if q.Caps.Ambient != 0 {
			amb = " @"
		}
		if q.Caps.Bounding != 0 {
			amb += " +"
		}
		name, command := q.Container, q.Name
		if q.thread != 0 {
			command = fmt.Sprintf("%s, thread %d", command, q.thread)
		}
		rows = append(rows, row(c(q.PPID), c(q.PID), c(user(q.UID[1], q.UserOutside)), c(orDash(name)), c(command), c(strings.ToLower(setText(q.Caps.Effective)), amb)))
	}
	p.table([]string{"PPID", "PID", "USER", "CONTAINER", "COMMAND", "EFFECTIVE (@ ambient, + bounding)"}, rows)
	return p.b.String()
}

// Text prints cgroups as lscgroup does, with what is in them.
func (s *Snapshot) Text(page Page) string {
	p := &printer{Page: page}
	var rows [][]cell
	for _, g := range s.Groups {
		rows = append(rows, g.row(""))
	}
	p.groups([]string{"CGROUP", "PROCESSES", "CONTAINER"}, rows)
	return p.b.String()
}

// row: the path is escaped already.
func (g *Group) row(sign string) []cell {
	name := g.Controllers
	if name == "" {
		name = "v2"
	}
	return row(cell{sign + name + ":" + g.Path, plain}, c(g.Processes), c(orDash(strings.Join(g.Containers, ", "))))
}

// groups prints a first column that has been through Safe when it was read.
func (p *printer) groups(head []string, rows [][]cell) {
	w := len(head[0])
	for _, r := range rows {
		w = max(w, width(cut(r[0].text, maxCell)))
	}
	for _, r := range slices.Insert(rows, 0, texts(dim, head...)) {
		first := cut(r[0].text, maxCell)
		p.put(r[0].style, first)
		p.b.WriteString(strings.Repeat(" ", w-width(first)+2))
		p.put(r[1].style, fmt.Sprintf("%-9s", r[1].text))
		p.b.WriteString("  ")
		p.put(r[2].style, Safe(r[2].text, maxCell))
		p.line()
	}
}

// ChangesText prints what came and went.
func ChangesText(list []Change, page Page) string {
	p := &printer{Page: page}
	for _, ch := range list {
		st := green
		if ch.Sign == "-" {
			st = red
		}
		p.put(st, ch.Sign+" "+cut(ch.row("")[0].text, maxCell))
		if len(ch.Containers) > 0 {
			p.put(dim, "  "+Safe(strings.Join(ch.Containers, ", "), maxCell))
		}
		p.line()
	}
	return p.b.String()
}
