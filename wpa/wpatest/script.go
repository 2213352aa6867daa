package wpatest

import (
	"bufio"
	"embed"
	"fmt"
	"io"
	"strings"

	"github.com/godbus/dbus/v5"
)

// Names on the bus.
const (
	busName        = "fi.w1.wpa_supplicant1"
	rootPath       = dbus.ObjectPath("/fi/w1/wpa_supplicant1")
	propertiesName = "org.freedesktop.DBus.Properties"
)

// Kind is what a line of a script is.
type Kind string

// The kinds of lines.
const (
	Call   Kind = "call"   // of the program under test
	Reply  Kind = "reply"  // of the supplicant
	Error  Kind = "error"  // of the supplicant: Args are the name of the error and its body
	Signal Kind = "signal" // of the supplicant
)

// Line is one message of a recording.
type Line struct {
	Part   string // what the suite was doing: "owner/accept"
	Node   string // "a", "b" or "c": whose bus it was on
	Kind   Kind
	Path   dbus.ObjectPath
	Member string // interface and member without the common prefix: "P2PDevice.Find", "Properties.Get"
	Args   []any
}

// Script is a recording of what real supplicants and the program said to each other, in order.
type Script []Line

//go:embed testdata/*.txt
var recordings embed.FS

// Recording reads a recorded script by its name.
func Recording(name string) (Script, error) {
	f, err := recordings.Open("testdata/" + name + ".txt")
	if err != nil {
		return nil, fmt.Errorf("wpatest: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	return ReadScript(f)
}

// ReadScript reads the form that Write writes: one message a line, fields separated by tabs, parts headed by "# name".
func ReadScript(r io.Reader) (Script, error) {
	var s Script
	part := ""
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		text := lines.Text()
		if strings.Contains(text, "\r") {
			return nil, fmt.Errorf("wpatest: line %d has a carriage return", n)
		}
		if name, ok := strings.CutPrefix(text, "# "); ok {
			part = name
			continue
		}
		fields := strings.Split(text, "\t")
		if len(fields) < 4 || fields[0] == "" || !strings.Contains(fields[3], ".") {
			return nil, fmt.Errorf("wpatest: line %d is not a message: %q", n, text)
		}
		l := Line{Part: part, Node: fields[0], Kind: Kind(fields[1]), Path: long(fields[2]), Member: fields[3]}
		switch l.Kind {
		case Call, Reply, Error, Signal:
		default:
			return nil, fmt.Errorf("wpatest: line %d: unknown kind %q", n, l.Kind)
		}
		for _, f := range fields[4:] {
			v, err := parse(f)
			if err != nil {
				return nil, fmt.Errorf("wpatest: line %d: %w", n, err)
			}
			l.Args = append(l.Args, v)
		}
		s = append(s, l)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("wpatest: %w", err)
	}
	return s, nil
}

// Write writes the script in the form that ReadScript reads.
func (s Script) Write(w io.Writer) error {
	out := bufio.NewWriter(w)
	part := ""
	for _, l := range s {
		if l.Part != part {
			part = l.Part
			fmt.Fprintf(out, "# %s\n", part)
		}
		fmt.Fprintln(out, l)
	}
	return out.Flush()
}

// String is the line as it stands in a script.
func (l Line) String() string {
	fields := []string{l.Node, string(l.Kind), short(l.Path), l.Member}
	for _, a := range l.Args {
		fields = append(fields, format(a))
	}
	return strings.Join(fields, "\t")
}

// short leaves out of a path what all paths of the supplicant begin with.
func short(p dbus.ObjectPath) string {
	if rest, ok := strings.CutPrefix(string(p), string(rootPath)); ok {
		return "~" + rest
	}
	return string(p)
}

func long(s string) dbus.ObjectPath {
	if rest, ok := strings.CutPrefix(s, "~"); ok {
		return rootPath + dbus.ObjectPath(rest)
	}
	return dbus.ObjectPath(s)
}

// member is the short form of an interface and a member of it.
func member(iface, name string) string {
	switch {
	case iface == propertiesName:
		return "Properties." + name
	case iface == busName:
		return "Root." + name
	case strings.HasPrefix(iface, busName+".Interface."):
		return iface[len(busName+".Interface."):] + "." + name
	case strings.HasPrefix(iface, busName+"."):
		return iface[len(busName+"."):] + "." + name
	}
	return iface + "." + name
}

// full is the opposite of member.
func full(m string) (iface, name string) {
	i := strings.LastIndexByte(m, '.')
	iface, name = m[:i], m[i+1:]
	switch iface {
	case "Properties":
		return propertiesName, name
	case "Root":
		return busName, name
	case "P2PDevice", "WPS":
		return busName + ".Interface." + iface, name
	case "Interface", "Group", "Peer", "BSS", "Station", "PersistentGroup":
		return busName + "." + iface, name
	}
	return iface, name
}

// Signal is a line as godbus hands it to a program.
func (l Line) Signal() *dbus.Signal {
	iface, name := full(l.Member)
	return &dbus.Signal{Name: iface + "." + name, Path: l.Path, Body: l.Args}
}
