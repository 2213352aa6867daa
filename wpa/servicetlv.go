package wpa

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Numbers of service discovery before association (Wi-Fi P2P specification 3.1.3.2, 4.2.13).
const (
	serviceProtocolAll     = 0
	serviceProtocolBonjour = 1
	serviceVersion         = 1 // of the Bonjour data
	recordPTR              = 12
	recordTXT              = 16
	maxDNSName             = 255
	maxLabel               = 63
	maxServiceData         = 1024 // of one record of ours: more does not fit a frame
	maxServiceTLVs         = 128  // in one response
)

// Service is a DNS-SD service that is advertised, or was found, before there is a group. What comes from a peer is its own words
// and may hold anything.
type Service struct {
	Type     string   // such as _nigh._tcp
	Instance string   // one label, at most 63 bytes
	TXT      []string // at most 255 bytes each
}

// RecordType is the type of a DNS record.
type RecordType uint16

// The types of records that services consist of.
const (
	PTR RecordType = recordPTR
	TXT RecordType = recordTXT
)

// String returns the name of the type.
func (t RecordType) String() string {
	switch t {
	case PTR:
		return "PTR"
	case TXT:
		return "TXT"
	}
	return fmt.Sprintf("TYPE%d", uint16(t))
}

// ServiceRecord is one record that a peer advertises.
type ServiceRecord struct {
	Name     string     // that was asked for, without .local: _nigh._tcp, or an instance of it
	Type     RecordType // PTR and TXT are read; of others there is only Data
	Instance string     // PTR: the name of the instance, one label
	TXT      []string   // TXT: its strings
	Data     []byte     // as it was sent
}

// errTLV says that what a peer sent is not what the specification has. The rest of that answer is dropped.
var errTLV = errors.New("malformed service discovery response")

// serviceNames are the names that a P2P device may point to instead of spelling them out, by their offsets in the packet that the
// specification imagines: a query with all three in it.
var serviceNames = map[byte]string{0x0c: "_tcp.local", 0x11: "local", 0x1c: "_udp.local"}

// queryName is the offset of the name that was asked for.
const queryName = 0x27

func (s Service) check() error {
	name, transport, ok := strings.Cut(s.Type, ".")
	switch {
	case !ok || transport != "_tcp" && transport != "_udp" || len(name) < 2 || len(name) > maxLabel || name[0] != '_' || strings.Contains(name, "."):
		return fmt.Errorf("%w: the service type %q is not like _nigh._tcp", ErrConfig, s.Type)
	case s.Instance == "" || len(s.Instance) > maxLabel:
		return fmt.Errorf("%w: a service instance has %d bytes", ErrConfig, len(s.Instance))
	}
	size := 0
	for _, t := range s.TXT {
		size += 1 + len(t)
		if len(t) > 255 || size > maxServiceData {
			return fmt.Errorf("%w: the TXT record of the service is too long", ErrConfig)
		}
	}
	return nil
}

// entry is a query that the supplicant answers, and the answer.
type entry struct{ key, data []byte }

// entries are the two records of a service.
func (s Service) entries() []entry {
	instance := append([]byte{byte(len(s.Instance))}, s.Instance...)
	var txt []byte
	for _, t := range s.TXT {
		txt = append(append(txt, byte(len(t))), t...)
	}
	if len(txt) == 0 {
		txt = []byte{0} // a TXT record has one string at least
	}
	return []entry{
		{serviceKey(s.Type, "", PTR), append(slices.Clone(instance), 0xc0, queryName)},
		{serviceKey(s.Type, s.Instance, TXT), txt},
	}
}

// serviceKey is the name, type and version that a record is asked for with.
func serviceKey(service, instance string, t RecordType) []byte {
	var key []byte
	label := func(l string) { key = append(append(key, byte(len(l))), l...) }
	if instance != "" {
		label(instance)
	}
	name, transport, _ := strings.Cut(service, ".")
	label(name)
	if transport == "_udp" {
		key = append(key, 0xc0, 0x1c)
	} else {
		key = append(key, 0xc0, 0x0c)
	}
	key = binary.BigEndian.AppendUint16(key, uint16(t))
	return append(key, serviceVersion)
}

// serviceRequest is the TLV of a query. Without a type it is for everything that Bonjour knows.
func serviceRequest(q ServiceQuery, id byte) []byte {
	data := []byte{serviceProtocolBonjour, id}
	if q.Type != "" {
		t := PTR
		if q.Instance != "" {
			t = TXT
		}
		data = append(data, serviceKey(q.Type, q.Instance, t)...)
	}
	return append(binary.LittleEndian.AppendUint16(nil, uint16(len(data))), data...)
}

// serviceAnswer is one TLV of a response.
type serviceAnswer struct {
	id     byte // of the query
	status byte // 0 = there is one, 1 = the peer does not know Bonjour, 2 = it has no such service, 3 = it did not understand
	record ServiceRecord
}

// serviceAnswers reads a response. What was read before something malformed is returned with errTLV.
func serviceAnswers(tlvs []byte) ([]serviceAnswer, error) {
	var list []serviceAnswer
	for len(tlvs) > 0 {
		if len(tlvs) < 5 || len(list) >= maxServiceTLVs {
			return list, errTLV
		}
		size := int(binary.LittleEndian.Uint16(tlvs))
		if size < 3 || len(tlvs) < 2+size {
			return list, errTLV
		}
		body := tlvs[2 : 2+size]
		tlvs = tlvs[2+size:]
		a := serviceAnswer{id: body[1], status: body[2]}
		if body[0] == serviceProtocolBonjour && a.status == 0 {
			record, err := readRecord(body[3:])
			if err != nil {
				return list, err
			}
			a.record = record
		} else if body[0] != serviceProtocolBonjour && body[0] != serviceProtocolAll {
			continue // another protocol's
		} else if a.status == 0 {
			return list, errTLV
		}
		list = append(list, a)
	}
	return list, nil
}

// readRecord reads the name, type and version that was asked for, and the data that follows.
func readRecord(b []byte) (ServiceRecord, error) {
	var r ServiceRecord
	labels, rest, err := readName(b, nil)
	if err != nil || len(rest) < 3 || rest[2] != serviceVersion {
		return r, errTLV
	}
	n := len(labels)
	if n < 2 || labels[n-1] != "local" {
		return r, errTLV
	}
	r.Name = strings.Join(labels[:n-1], ".")
	r.Type = RecordType(binary.BigEndian.Uint16(rest))
	r.Data = slices.Clone(rest[3:])
	switch r.Type {
	case PTR:
		target, rest, err := readName(r.Data, labels)
		if err != nil || len(rest) != 0 || len(target) != n+1 || !slices.EqualFunc(target[1:], labels, strings.EqualFold) {
			return r, errTLV
		}
		r.Instance = target[0]
	case TXT:
		for d := r.Data; len(d) > 0; {
			size := int(d[0])
			if len(d) < 1+size {
				return r, errTLV
			}
			if size > 0 {
				r.TXT = append(r.TXT, string(d[1:1+size]))
			}
			d = d[1+size:]
		}
	}
	return r, nil
}

// readName reads a DNS name, whose end may point to one of the known names, or to asked unless that is nil. It returns the labels
// and what follows.
func readName(b []byte, asked []string) (labels []string, rest []byte, err error) {
	total := 0
	for {
		if len(b) == 0 {
			return nil, nil, errTLV
		}
		size := int(b[0])
		switch {
		case size == 0:
			return labels, b[1:], nil
		case size == 0xc0:
			if len(b) < 2 {
				return nil, nil, errTLV
			}
			end, known := asked, b[1] == queryName && asked != nil
			if name, ok := serviceNames[b[1]]; ok {
				end, known = strings.Split(name, "."), true
			}
			if !known {
				return nil, nil, errTLV
			}
			return append(labels, end...), b[2:], nil
		case size > maxLabel || len(b) < 1+size:
			return nil, nil, errTLV
		}
		if total += 1 + size; total > maxDNSName {
			return nil, nil, errTLV
		}
		labels = append(labels, string(b[1:1+size]))
		b = b[1+size:]
	}
}
