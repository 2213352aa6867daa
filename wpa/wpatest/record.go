package wpatest

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"
)

// Recorder listens on buses as a monitor and writes down what is said to and by the supplicants there. What differs from run
// to run (addresses, the letters of SSIDs) is made the same, and what is secret is replaced.
type Recorder struct {
	mu    sync.Mutex
	parts []string                  // guarded by mu; in their order
	part  map[string]string         // guarded by mu; the part that each node is in
	lines Script                    // guarded by mu
	raw   map[string]map[string]int // guarded by mu; node and serial of calls not yet answered, to their line

	marks []*dbus.Conn
	runs  sync.WaitGroup
	ends  []func()
}

// A part begins on each bus with a signal there: what the monitor sees after it belongs to the part, however late it sees it.
const (
	markPath   = dbus.ObjectPath("/nigh/part")
	markMember = "nigh.lab.Part"
)

// monitorBuffer is how many messages may wait: godbus drops what does not fit.
const monitorBuffer = 1 << 14

// NewRecorder returns a recorder that listens nowhere yet. The caller must call Close.
func NewRecorder() *Recorder {
	return &Recorder{raw: map[string]map[string]int{}, part: map[string]string{}}
}

// Listen begins to record what is said on a bus under the name of a node.
func (r *Recorder) Listen(ctx context.Context, node, address string) error {
	conn, err := dbus.Connect(address)
	if err != nil {
		return fmt.Errorf("wpatest: record: %w", err)
	}
	call := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.Monitoring.BecomeMonitor", 0, []string{}, uint32(0))
	if call.Err != nil {
		conn.Close()
		return fmt.Errorf("wpatest: record: %w", call.Err)
	}
	mark, err := dbus.Connect(address)
	if err != nil {
		conn.Close()
		return fmt.Errorf("wpatest: record: %w", err)
	}
	r.marks = append(r.marks, mark)
	messages := make(chan *dbus.Message, monitorBuffer)
	conn.Eavesdrop(messages)
	r.ends = append(r.ends, func() {
		conn.Eavesdrop(nil) // godbus may send on the channel while Close closes it
		_ = conn.Close()    // only read from
		_ = mark.Close()    // nothing is under way on it
		close(messages)
	})
	r.mu.Lock()
	r.raw[node] = map[string]int{}
	r.mu.Unlock()
	r.runs.Go(func() {
		for m := range messages {
			r.take(node, m)
		}
	})
	return nil
}

// Part says what comes next, as "step/part".
func (r *Recorder) Part(name string) error {
	r.mu.Lock()
	r.parts = append(r.parts, name)
	r.mu.Unlock()
	for _, c := range r.marks {
		if err := c.Emit(markPath, markMember, name); err != nil {
			return fmt.Errorf("wpatest: record: %w", err)
		}
	}
	return nil
}

// Close stops listening.
func (r *Recorder) Close() {
	for _, end := range r.ends {
		end()
	}
	r.runs.Wait()
}

// head is a header of a message; "" when it is not there.
func head(m *dbus.Message, f dbus.HeaderField) string {
	switch v := m.Headers[f].Value().(type) {
	case string:
		return v
	case dbus.ObjectPath:
		return string(v)
	case uint32:
		return fmt.Sprint(v)
	}
	return ""
}

func (r *Recorder) take(node string, m *dbus.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	iface, name := head(m, dbus.FieldInterface), head(m, dbus.FieldMember)
	if m.Type == dbus.TypeSignal && iface+"."+name == markMember && len(m.Body) == 1 {
		r.part[node], _ = m.Body[0].(string)
		return
	}
	l := Line{Part: r.part[node], Node: node, Path: dbus.ObjectPath(head(m, dbus.FieldPath)), Member: member(iface, name), Args: m.Body}
	switch m.Type {
	case dbus.TypeMethodCall:
		if head(m, dbus.FieldDestination) != busName {
			return
		}
		l.Kind = Call
		r.raw[node][head(m, dbus.FieldSender)+" "+fmt.Sprint(m.Serial())] = len(r.lines)
	case dbus.TypeSignal:
		if !wanted(iface, name, m.Body) {
			return
		}
		l.Kind = Signal
	case dbus.TypeMethodReply, dbus.TypeError:
		key := head(m, dbus.FieldDestination) + " " + head(m, dbus.FieldReplySerial)
		asked, ok := r.raw[node][key]
		if !ok {
			return
		}
		delete(r.raw[node], key)
		l.Kind, l.Path, l.Member = Reply, r.lines[asked].Path, r.lines[asked].Member
		if m.Type == dbus.TypeError {
			l.Kind = Error
			l.Args = append([]any{head(m, dbus.FieldErrorName)}, m.Body...)
		}
	default:
		return
	}
	r.lines = append(r.lines, l)
}

// wanted leaves out what says nothing about P2P: scan results, and the standard's copies of the supplicant's own signals.
func wanted(iface, name string, body []any) bool {
	switch {
	case !strings.HasPrefix(iface, busName):
		return false
	case strings.HasSuffix(iface, ".BSS") || strings.HasPrefix(name, "BSS") || strings.HasPrefix(name, "Scan") || strings.HasPrefix(name, "Network"):
		return false
	case iface == busName+".Interface" && name == "PropertiesChanged":
		d, _ := body[0].(map[string]dbus.Variant)
		_, state := d["State"]
		_, reason := d["DisconnectReason"]
		return state || reason
	case name == "PropertiesChanged":
		return iface != busName
	}
	return true
}

// Address is what the recordings have for the P2P device address of a node: 02:00:00:00:00:0a for a.
func Address(node string) net.HardwareAddr {
	return net.HardwareAddr{2, 0, 0, 0, 0, node[0] - 'a' + 0x0a}
}

// groupAddress is what they have for the addresses of its group interfaces.
func groupAddress(node string) net.HardwareAddr {
	return net.HardwareAddr{2, 0, 0, 0, 1, node[0] - 'a' + 0x0a}
}

const (
	recordedSSID       = "DIRECT-nh"
	recordedPassphrase = "passphrase"
	recordedPIN        = "24681353"
)

var (
	ssidForm  = regexp.MustCompile(`^DIRECT-[0-9A-Za-z]{2}`)
	groupForm = regexp.MustCompile(`/Groups/[^/]+`)
	pinForm   = regexp.MustCompile(`^[0-9]{8}$`)
	hexForm   = regexp.MustCompile(`^[0-9a-f]{64}$`)
	macForm   = regexp.MustCompile(`[0-9a-f]{2}(:[0-9a-f]{2}){5}`)
)

// Script returns the recording: one for each step, by the name before the slash. Nodes are the P2P device addresses of the
// nodes as they were on the air.
func (r *Recorder) Script(nodes map[string]net.HardwareAddr, keep ...string) map[string]Script {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := normalizer{known: map[string]net.HardwareAddr{}, keep: keep}
	for name, addr := range nodes {
		n.known[addr.String()] = Address(name)
	}
	n.learn(r.lines)
	w := rewrite{text: n.text, blob: n.blob}
	out := map[string]Script{}
	sorted := slices.Clone(r.lines)
	slices.SortStableFunc(sorted, func(a, b Line) int { return slices.Index(r.parts, a.Part) - slices.Index(r.parts, b.Part) })
	for _, l := range sorted {
		l.Path = dbus.ObjectPath(n.text("", string(l.Path)))
		l.Args = trim(l, w.values(l.Args))
		step, _, _ := strings.Cut(l.Part, "/")
		out[step] = append(out[step], l)
	}
	return out
}

// kept are the keys that are recorded of dictionaries with the whole configuration of an interface or a network.
var kept = map[string][]string{
	"Root.InterfaceAdded":            {"Ifname", "Driver", "State", "Scanning", "Country", "Capabilities", "Stations"},
	"P2PDevice.PersistentGroupAdded": {"Properties"},
	"PersistentGroup":                {"ssid", "bssid", "psk", "mode", "disabled", "key_mgmt", "proto", "pairwise", "auth_alg", "p2p_client_list"},
	"Interface.PropertiesChanged":    {"State", "DisconnectReason", "CurrentBSS"},
}

// trim leaves out of a line's arguments what nobody reads.
func trim(l Line, args []any) []any {
	only := func(v any, keys []string) any {
		d, ok := v.(map[string]dbus.Variant)
		if !ok {
			return v
		}
		out := map[string]dbus.Variant{}
		for k, e := range d {
			if slices.Contains(keys, k) {
				out[k] = e
			}
		}
		return out
	}
	if keys := kept[l.Member]; keys != nil {
		args = each(args, func(v any) any { return only(v, keys) })
	}
	network := func(v any) any {
		if e, ok := v.(dbus.Variant); ok {
			if d, ok := e.Value().(map[string]dbus.Variant); ok {
				return dbus.MakeVariant(only(d, kept["PersistentGroup"]))
			}
		}
		return v
	}
	switch {
	case l.Member == "P2PDevice.PersistentGroupAdded":
		for _, a := range args {
			if d, ok := a.(map[string]dbus.Variant); ok {
				d["Properties"], _ = network(d["Properties"]).(dbus.Variant)
			}
		}
	case l.Member == "Properties.Get" && l.Kind == Reply && strings.Contains(string(l.Path), "/PersistentGroups/"):
		args = each(args, network)
	}
	return args
}

// normalizer makes what differs from run to run the same.
type normalizer struct {
	known map[string]net.HardwareAddr // addresses on the air to those of the recording
	keep  []string                    // PINs that are the test's own
}

// learn finds the addresses of group interfaces: a node's own as the BSSID of the groups that it owns, and those of its peers as
// they are told.
func (n *normalizer) learn(lines Script) {
	for _, l := range lines {
		if l.Kind != Signal {
			continue
		}
		for _, a := range l.Args {
			d, _ := a.(map[string]dbus.Variant)
			device, _ := d["peer_device_addr"].Value().([]byte)
			iface, _ := d["peer_interface_addr"].Value().([]byte)
			if to, ok := n.known[net.HardwareAddr(device).String()]; ok && len(iface) == 6 {
				n.add(iface, groupAddress(string(rune('a'+to[5]-0x0a))))
			}
		}
	}
	// A client of an autonomous group is told by its device address, and right after by that of its interface.
	joined := ""
	for _, l := range lines {
		switch l.Member {
		case "Group.PeerJoined":
			p, _ := l.Args[0].(dbus.ObjectPath)
			if mac, err := hex.DecodeString(string(p[strings.LastIndexByte(string(p), '/')+1:])); err == nil {
				joined = net.HardwareAddr(mac).String()
			}
		case "Interface.StaAuthorized":
			text, _ := l.Args[0].(string)
			to, ok := n.known[joined]
			if mac, err := net.ParseMAC(text); err == nil && ok {
				n.add(mac, groupAddress(string(rune('a'+to[5]-0x0a))))
			}
		}
	}
	for _, l := range lines {
		if l.Kind == Reply && l.Member == "Properties.GetAll" && len(l.Args) == 1 {
			d, _ := l.Args[0].(map[string]dbus.Variant)
			bssid, _ := d["BSSID"].Value().([]byte)
			if role, _ := d["Role"].Value().(string); role == "GO" && len(bssid) == 6 {
				n.add(bssid, groupAddress(l.Node))
			}
		}
	}
}

func (n *normalizer) add(from, to net.HardwareAddr) {
	if _, ok := n.known[from.String()]; !ok {
		n.known[from.String()] = to
	}
}

func (n *normalizer) text(key, s string) string {
	switch {
	case key == "passphrase" || key == "Passphrase":
		if s != "" {
			return recordedPassphrase
		}
	case key == "psk" && len(s) > 0 && s[0] == '"':
		return `"` + recordedPassphrase + `"`
	case hexForm.MatchString(s):
		return strings.Repeat("0", 64)
	case pinForm.MatchString(s) && s != "00000000" && !slices.Contains(n.keep, s):
		return recordedPIN
	}
	if rest, ok := strings.CutPrefix(s, `"`); ok {
		return `"` + n.text(key, rest)
	}
	s = ssidForm.ReplaceAllString(s, recordedSSID)
	s = groupForm.ReplaceAllString(s, "/Groups/"+recordedSSID[len("DIRECT-"):])
	for _, of := range []string{"/Peers/", "/Stations/"} {
		if i := strings.LastIndex(s, of); i >= 0 {
			if mac, err := hex.DecodeString(s[i+len(of):]); err == nil {
				s = s[:i+len(of)] + hex.EncodeToString(n.mac(mac))
			}
		}
	}
	return macForm.ReplaceAllStringFunc(s, func(m string) string {
		mac, _ := net.ParseMAC(m)
		return n.mac(mac).String()
	})
}

func (n *normalizer) mac(b net.HardwareAddr) net.HardwareAddr {
	if to, ok := n.known[b.String()]; ok {
		return to
	}
	return b
}

func (n *normalizer) blob(key string, b []byte) []byte {
	switch {
	case key == "PSK":
		return make([]byte, len(b))
	case len(b) == 6:
		return n.mac(b)
	}
	if ssidForm.Match(b) {
		return append([]byte(recordedSSID), b[len(recordedSSID):]...)
	}
	return b
}
