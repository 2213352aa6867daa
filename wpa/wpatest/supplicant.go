package wpatest

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// Errors that the supplicant answers with.
const (
	errInvalidArgs   = busName + ".InvalidArgs"
	errUnknown       = busName + ".UnknownError"
	errNoInterface   = busName + ".InterfaceUnknown"
	errNoNetwork     = busName + ".NetworkUnknown"
	errUnsupported   = busName + ".ConnectChannelUnsupported"
	errUnknownMethod = "org.freedesktop.DBus.Error.UnknownMethod"
)

// object is one object's properties, by interface (short form) and name.
type object map[string]map[string]dbus.Variant

// Supplicant is one scripted wpa_supplicant with one radio. Make it with [NewAir].
type Supplicant struct {
	Name    string // "a", as in the recordings
	Bus     *Bus
	Address net.HardwareAddr // P2P device address

	air   *Air
	later bool // it is of the kind of NewLaterAir

	// All below is guarded by air.mu.
	conn     *dbus.Conn    // nil while it does not run
	over     chan struct{} // closed when it ends
	objects  map[dbus.ObjectPath]object
	nextPath int    // number of the next interface
	nextLink int    // number of the next group's network device
	life     int    // counts runs
	device   device // what peers see
	faults   []*Fault
	change   func(Line) []Line // what becomes of a signal; nil = itself

	finding   bool
	listening bool
	extended  bool
	pending   *pending
	rejected  map[*Supplicant]bool
	group     *membership
	profiles  map[dbusPath]profile
	lastPGO   int
}

type dbusPath = dbus.ObjectPath

// ownerPath is the interface that owns P2P.
const ownerPath = rootPath + "/Interfaces/0"

// device is what a device says of itself.
type device struct {
	config  map[string]dbus.Variant // P2PDeviceConfig
	methods string
}

// profile is a persistent group.
type profile struct {
	ssid, psk string
	bssid     net.HardwareAddr // device address of the owner
	owner     bool
}

// Start takes the name on the bus with one interface and no state, as a new process.
func (s *Supplicant) Start() error {
	conn, err := dbus.Connect(s.Bus.Address)
	if err != nil {
		return fmt.Errorf("wpatest: %w", err)
	}
	reply, err := conn.RequestName(busName, dbus.NameFlagDoNotQueue)
	if err == nil && reply != dbus.RequestNameReplyPrimaryOwner {
		err = fmt.Errorf("the name is taken (%d)", reply)
	}
	if err != nil {
		_ = conn.Close()
		return fmt.Errorf("wpatest: %w", err)
	}
	s.air.mu.Lock()
	defer s.air.mu.Unlock()
	s.conn = conn
	s.life++
	s.reset()
	calls := make(chan *dbus.Message, 4096)
	conn.Eavesdrop(calls)
	over := make(chan struct{})
	s.over = over
	s.air.runs.Go(func() {
		for {
			select {
			case m, ok := <-calls: // closed when the bus ends
				if !ok {
					return
				}
				if m.Type == dbus.TypeMethodCall {
					s.handle(conn, m)
				}
			case <-over:
				return
			}
		}
	})
	s.emit(rootPath, "Root.InterfaceAdded", ownerPath, map[string]dbus.Variant(s.objects[ownerPath]["Interface"]))
	s.air.flush()
	return nil
}

// reset makes the objects of a new process, with the properties that real ones had in the recording.
func (s *Supplicant) reset() {
	base := s.air.scripts["start"].objects(s.air.recorded(s))
	s.objects = map[dbus.ObjectPath]object{rootPath: base[rootPath], ownerPath: base[ownerPath]}
	s.nextPath, s.nextLink, s.lastPGO = 1, 0, -1
	s.finding, s.listening, s.extended, s.pending, s.group = false, false, false, nil, nil
	s.rejected, s.profiles = map[*Supplicant]bool{}, map[dbusPath]profile{}
	own := s.objects[ownerPath]
	config, _ := own["P2PDevice"]["P2PDeviceConfig"].Value().(map[string]dbus.Variant)
	s.device = device{config: maps.Clone(config)}
	s.device.methods, _ = own["Interface"]["ConfigMethods"].Value().(string)
	own["Interface"]["CurrentBSS"] = dbus.MakeVariant(dbus.ObjectPath("/"))
	own["P2PDevice"]["Role"] = dbus.MakeVariant("device")
	own["P2PDevice"]["Group"] = dbus.MakeVariant(dbus.ObjectPath("/"))
	if s.later {
		own["P2PDevice"]["DeviceAddress"] = dbus.MakeVariant([]byte(s.Address))
	}
}

// Kill ends the process as a crash does: the name goes, and nothing is said.
func (s *Supplicant) Kill() error {
	s.air.mu.Lock()
	defer s.air.mu.Unlock()
	s.kill()
	s.air.flush()
	return nil
}

func (s *Supplicant) kill() {
	if s.conn == nil {
		return
	}
	s.conn.Eavesdrop(nil) // godbus may send on the channel while Close closes it
	close(s.over)
	_ = s.conn.Close() // a crash does not report
	s.conn = nil
	s.finding, s.listening, s.extended = false, false, false
	s.air.vanished(s)
	s.objects = map[dbus.ObjectPath]object{}
}

// objects gathers the properties that a node's objects had, from the reads in a recording.
func (s Script) objects(node string) map[dbus.ObjectPath]object {
	out := map[dbus.ObjectPath]object{}
	var asked *Line
	for i, l := range s {
		if l.Node != node || !strings.HasPrefix(l.Member, "Properties.") {
			continue
		}
		if l.Kind == Call {
			asked = &s[i]
			continue
		}
		if l.Kind != Reply || asked == nil || asked.Path != l.Path || len(l.Args) != 1 {
			continue
		}
		name, _ := asked.Args[0].(string)
		iface := strings.TrimSuffix(member(name, ""), ".")
		o := out[l.Path]
		if o == nil {
			o = object{}
			out[l.Path] = o
		}
		if o[iface] == nil {
			o[iface] = map[string]dbus.Variant{}
		}
		values, _ := l.Args[0].(map[string]dbus.Variant)
		if l.Member == "Properties.Get" {
			property, _ := asked.Args[1].(string)
			value, _ := l.Args[0].(dbus.Variant)
			values = map[string]dbus.Variant{property: value}
		}
		for k, v := range values {
			if _, known := o[iface][k]; !known {
				o[iface][k] = v
			}
		}
		asked = nil
	}
	return out
}

// request is a method call that arrived.
type request struct {
	sender string
	serial uint32
	path   dbus.ObjectPath
	member string
	args   []any
}

// failure is an error that a method answers with.
type failure struct{ name, text string }

func (f *failure) Error() string { return f.name + ": " + f.text }

func invalid(text string) *failure { return &failure{errInvalidArgs, text} }

// handle answers one call, and then says what follows from it: one at a time, as the real one does.
func (s *Supplicant) handle(conn *dbus.Conn, m *dbus.Message) {
	r := request{
		sender: head(m, dbus.FieldSender), serial: m.Serial(), path: dbus.ObjectPath(head(m, dbus.FieldPath)),
		member: member(head(m, dbus.FieldInterface), head(m, dbus.FieldMember)), args: m.Body,
	}
	s.air.mu.Lock()
	defer s.air.mu.Unlock()
	if s.conn != conn {
		return
	}
	fault := s.fault(r)
	if fault != nil && fault.before != nil {
		fault.before(s)
		if s.conn != conn {
			return
		}
	}
	var body []any
	var fail *failure
	if fault != nil && fault.fail != nil {
		fail = fault.fail
	} else {
		body, fail = s.answer(r)
	}
	if fault != nil && fault.mangle != nil && fail == nil {
		body = fault.mangle(body)
	}
	if r.member == "P2PDevice.Disconnect" {
		s.air.flush() // what follows from it is told before it is answered
	}
	if fault == nil || !fault.silent {
		s.reply(r, body, fail)
	}
	if fault != nil && fault.after != nil {
		fault.after(s)
	}
	s.air.flush()
}

func (s *Supplicant) reply(r request, body []any, fail *failure) {
	m := &dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant(r.sender), dbus.FieldReplySerial: dbus.MakeVariant(r.serial),
	}, Body: body}
	if fail != nil {
		m.Type, m.Body = dbus.TypeError, []any{fail.text}
		m.Headers[dbus.FieldErrorName] = dbus.MakeVariant(fail.name)
	}
	s.send(m)
}

// send puts a message on the bus; a bus that is gone takes none.
func (s *Supplicant) send(m *dbus.Message) {
	if s.conn == nil {
		return
	}
	if len(m.Body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(m.Body...))
	}
	s.conn.Send(m, nil)
}

// emit queues a signal, to be sent after the answer to the call that it follows from.
func (s *Supplicant) emit(path dbus.ObjectPath, member string, args ...any) {
	s.air.queue = append(s.air.queue, said{s, s.life, Line{Node: s.Name, Kind: Signal, Path: path, Member: member, Args: args}})
}

// say sends a signal now, through what the test wants to become of signals.
func (s *Supplicant) say(l Line) {
	if s.later {
		l = newer(l)
	}
	lines := []Line{l}
	if s.change != nil {
		lines = s.change(l)
	}
	for _, l := range lines {
		iface, name := full(l.Member)
		s.send(&dbus.Message{Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath: dbus.MakeVariant(l.Path), dbus.FieldInterface: dbus.MakeVariant(iface), dbus.FieldMember: dbus.MakeVariant(name),
		}, Body: l.Args})
	}
}

// newer is a signal as a later version says it.
func newer(l Line) Line {
	l.Args = slices.Clone(l.Args)
	for i, a := range l.Args {
		if d, ok := a.(map[string]dbus.Variant); ok && !strings.HasPrefix(l.Member, "Root.") {
			d = maps.Clone(d)
			d["later"] = dbus.MakeVariant([]string{"unknown"})
			l.Args[i] = d
		}
	}
	if l.Member == "P2PDevice.GroupFormationFailure" && len(l.Args) == 1 && l.Args[0] == "" {
		l.Args[0] = "Group formation timed out"
	}
	l.Args = append(l.Args, uint32(12))
	return l
}

// answer carries out a call.
func (s *Supplicant) answer(r request) ([]any, *failure) {
	o := s.objects[r.path]
	if o == nil {
		return nil, &failure{errUnknownMethod, "Method \"" + r.member + "\" doesn't exist"}
	}
	switch r.member {
	case "Properties.Get":
		var iface, name string
		if dbus.Store(r.args, &iface, &name) != nil {
			return nil, invalid("arguments of Get")
		}
		v, ok := s.properties(r.path, iface)[name]
		if m := s.group; !ok && m != nil && r.path == m.object && m.partial {
			return nil, &failure{"org.freedesktop.DBus.Error.Failed", "Failed to read property"}
		}
		if !ok {
			return nil, &failure{"org.freedesktop.DBus.Error.InvalidArgs", "No such property"}
		}
		return []any{v}, nil
	case "Properties.GetAll":
		var iface string
		if dbus.Store(r.args, &iface) != nil {
			return nil, invalid("arguments of GetAll")
		}
		if _, ok := o[strings.TrimSuffix(member(iface, ""), ".")]; !ok {
			return nil, &failure{"org.freedesktop.DBus.Error.InvalidArgs", "No such interface"}
		}
		if m := s.group; m != nil && r.path == m.object && m.partial {
			return nil, &failure{"org.freedesktop.DBus.Error.InvalidArgs", "No readable properties in this interface"}
		}
		return []any{s.properties(r.path, iface)}, nil
	case "Properties.Set":
		var iface, name string
		var v dbus.Variant
		if dbus.Store(r.args, &iface, &name, &v) != nil {
			return nil, invalid("arguments of Set")
		}
		return nil, s.set(r.path, strings.TrimSuffix(member(iface, ""), "."), name, v)
	}
	m, ok := methods[r.member]
	if !ok || !slices.ContainsFunc(slices.Collect(maps.Keys(o)), func(iface string) bool { return strings.HasPrefix(r.member, iface+".") }) && !strings.HasPrefix(r.member, "WPS.") {
		return nil, &failure{errUnknownMethod, "Method \"" + r.member + "\" doesn't exist"}
	}
	if got := dbus.SignatureOf(r.args...).String(); got != m.in {
		return nil, invalid(fmt.Sprintf("Did not receive correct message arguments: %q, not %q", got, m.in))
	}
	d := map[string]dbus.Variant{}
	if m.in == "a{sv}" {
		d, _ = r.args[0].(map[string]dbus.Variant)
		for k, v := range d {
			want, known := m.keys[k]
			if strings.HasPrefix(want, "later ") {
				want, known = want[len("later "):], s.later
			}
			if !known || want != v.Signature().String() && want != "*" {
				return nil, invalid(fmt.Sprintf("Did not receive correct message arguments: %s of type %s", k, v.Signature()))
			}
		}
	}
	return m.run(s, r, args{d})
}

// properties returns the properties of an object as they are now.
func (s *Supplicant) properties(path dbus.ObjectPath, iface string) map[string]dbus.Variant {
	short := strings.TrimSuffix(member(iface, ""), ".")
	out := maps.Clone(s.objects[path][short])
	if out == nil {
		out = map[string]dbus.Variant{}
	}
	switch short {
	case "Root":
		out["Interfaces"] = dbus.MakeVariant(s.paths(rootPath + "/Interfaces/"))
	case "P2PDevice":
		out["Peers"] = dbus.MakeVariant(s.paths(ownerPath + "/Peers/"))
		out["PersistentGroups"] = dbus.MakeVariant(s.paths(ownerPath + "/PersistentGroups/"))
		out["P2PDeviceConfig"] = dbus.MakeVariant(maps.Clone(s.device.config))
	case "Interface":
		out["ConfigMethods"] = dbus.MakeVariant(s.device.methods)
		out["Stations"] = dbus.MakeVariant(s.paths(path + "/Stations/"))
	}
	return out
}

// paths lists the objects directly below a prefix.
func (s *Supplicant) paths(prefix dbus.ObjectPath) []dbus.ObjectPath {
	list := []dbus.ObjectPath{}
	for p := range s.objects {
		if rest, ok := strings.CutPrefix(string(p), string(prefix)); ok && !strings.Contains(rest, "/") {
			list = append(list, p)
		}
	}
	slices.Sort(list)
	return list
}

// configKeys are the keys of P2PDeviceConfig with their types.
var configKeys = map[string]string{
	"DeviceName": "s", "PrimaryDeviceType": "ay", "SecondaryDeviceTypes": "aay", "VendorExtension": "aay", "GOIntent": "u",
	"PersistentReconnect": "b", "ListenRegClass": "u", "ListenChannel": "u", "OperRegClass": "u", "OperChannel": "u", "SsidPostfix": "s",
	"IntraBss": "b", "GroupIdle": "u", "disassoc_low_ack": "u", "NoGroupIface": "b", "p2p_search_delay": "u",
	"IpAddrGo": "ay", "IpAddrMask": "ay", "IpAddrStart": "ay", "IpAddrEnd": "ay",
}

// set carries out Properties.Set.
func (s *Supplicant) set(path dbus.ObjectPath, iface, name string, v dbus.Variant) *failure {
	switch iface + "." + name {
	case "P2PDevice.P2PDeviceConfig":
		d, ok := v.Value().(map[string]dbus.Variant)
		if !ok {
			return invalid("P2PDeviceConfig is a dictionary")
		}
		for _, k := range slices.Sorted(maps.Keys(d)) {
			if configKeys[k] != d[k].Signature().String() {
				return invalid("Did not receive correct message arguments: " + k)
			}
			switch x := d[k].Value().(type) {
			case string:
				if len(x) > 32 {
					return invalid(k + " is too long")
				}
			case [][]byte:
				if len(x) > 10 {
					return invalid(k + " has too many")
				}
			case []byte:
				if want := map[bool]int{true: 8, false: 4}[k == "PrimaryDeviceType"]; len(x) != want {
					return invalid(k + " has the wrong length")
				}
			case uint32:
				if k == "GOIntent" && x > 15 {
					return invalid("GOIntent is 0 to 15")
				}
			}
			s.device.config[k] = d[k]
		}
		s.air.changed(s)
		return nil
	case "Interface.ConfigMethods":
		text, ok := v.Value().(string)
		if !ok {
			return invalid("ConfigMethods is a string")
		}
		s.device.methods = text
		s.air.changed(s)
		return nil
	}
	if _, ok := s.properties(path, busName+"."+iface)[name]; ok {
		return &failure{"org.freedesktop.DBus.Error.PropertyReadOnly", "Property is read-only"}
	}
	return &failure{"org.freedesktop.DBus.Error.InvalidArgs", "No such property"}
}

// start makes a Supplicant run on a bus of its own until the test ends.
func (s *Supplicant) start(tb testing.TB) {
	tb.Helper()
	s.Bus = StartBus(tb, AllowAll)
	if err := s.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Kill() })
}
