package radio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"testing"

	"nigh/lab"
)

// monitor is the interface of the guest that hears every frame of all simulated radios, as they are on the air.
const monitor = "hwsim0"

// Eavesdrop begins to keep every frame that is on the air. [ParseFrame] reads them. Call it while there is a bed.
func Eavesdrop(tb testing.TB) *lab.Capture {
	tb.Helper()
	if err := run(tb.Context(), "ip", "link", "set", monitor, "up"); err != nil {
		tb.Fatalf("radio: %v", err)
	}
	return lab.CaptureOn(tb, monitor)
}

// Kind is what a frame is for: type and subtype as in the first byte of its header (IEEE 802.11, 9.2.4.1).
type Kind byte

// Kinds of frames that tell of the device that sends them.
const (
	AssociationRequest Kind = 0x00
	ProbeRequest       Kind = 0x40
	ProbeResponse      Kind = 0x50
	Beacon             Kind = 0x80
	Action             Kind = 0xd0
	Data               Kind = 0x08 // also with quality of service
)

// Frame is one frame of the air.
type Frame struct {
	Kind      Kind
	Protected bool // its body is encrypted
	To, From  net.HardwareAddr
	Body      []byte // what follows the header
}

var errFrame = errors.New("radio: not a whole frame")

// ParseFrame reads a captured frame, which radiotap's header precedes. Control frames, which have no sender, are an error.
func ParseFrame(raw []byte) (Frame, error) {
	const header, protected = 24, 0x40
	if len(raw) < 4 || len(raw) < int(binary.LittleEndian.Uint16(raw[2:])) {
		return Frame{}, errFrame
	}
	b := raw[binary.LittleEndian.Uint16(raw[2:]):]
	if len(b) < header {
		return Frame{}, errFrame
	}
	f := Frame{Kind: Kind(b[0] & 0xfc), Protected: b[1]&protected != 0, To: b[4:10], From: b[10:16], Body: b[header:]}
	if b[0]&0x0c == byte(Data) {
		f.Kind = Data
	}
	return f, nil
}

// Attribute is one piece of what a device says of itself in clear.
type Attribute struct {
	ID    uint16
	Value []byte
}

// Vendor types of the elements that carry them.
var (
	wpsElement = []byte{0x00, 0x50, 0xf2, 0x04}
	p2pElement = []byte{0x50, 0x6f, 0x9a, 0x09}
)

// WPS returns the attributes of Wi-Fi Protected Setup in a frame, those within the frame's P2P attributes too: there, a
// device's type and name are part of its Device Info.
func (f Frame) WPS() []Attribute {
	all := attributes(f.element(wpsElement), 2, binary.BigEndian)
	for _, a := range f.P2P() {
		const deviceInfo, fixed = 13, 6 + 2 + 8 // address, methods, type
		if a.ID != deviceInfo || len(a.Value) < fixed+1 {
			continue
		}
		secondary := int(a.Value[fixed]) * 8
		if rest := a.Value[fixed+1:]; len(rest) >= secondary {
			name := attributes(rest[secondary:], 2, binary.BigEndian)
			all = append(all, name...)
		}
	}
	return all
}

// P2P returns the attributes of Wi-Fi Direct in a frame.
func (f Frame) P2P() []Attribute {
	all := attributes(f.element(p2pElement), 1, binary.LittleEndian)
	return all
}

// attributes reads attributes whose IDs have so many bytes; what is cut off is left out.
func attributes(b []byte, idSize int, order binary.ByteOrder) (all []Attribute) {
	for len(b) >= idSize+2 {
		id := uint16(b[0])
		if idSize == 2 {
			id = order.Uint16(b)
		}
		size := int(order.Uint16(b[idSize:]))
		if b = b[idSize+2:]; size > len(b) {
			return all
		}
		all = append(all, Attribute{id, b[:size]})
		b = b[size:]
	}
	return all
}

// element puts together what all vendor elements of a type in a frame carry.
func (f Frame) element(vendor []byte) []byte {
	var fixed int // bytes before the elements
	switch f.Kind {
	case ProbeRequest:
	case AssociationRequest:
		fixed = 4
	case ProbeResponse, Beacon:
		fixed = 12
	case Action:
		// Public action frames of P2P, and action frames of P2P: a category, perhaps a field, the vendor type, a subtype and a
		// dialog token.
		if fixed = bytes.Index(f.Body[:min(len(f.Body), 6)], p2pElement); fixed < 0 {
			return nil
		}
		fixed += len(p2pElement) + 2
	default:
		return nil
	}
	var found []byte
	const vendorSpecific = 221
	for b := f.Body[min(fixed, len(f.Body)):]; len(b) >= 2 && len(b) >= 2+int(b[1]); b = b[2+int(b[1]):] {
		if rest, ok := bytes.CutPrefix(b[2:2+int(b[1])], vendor); ok && b[0] == vendorSpecific {
			found = append(found, rest...)
		}
	}
	return found
}
