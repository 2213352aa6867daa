// Package wpatest is a wpa_supplicant for tests: scripted by recordings of the real one, on a real D-Bus of its own, and with
// faults on demand that the real one does not give.
//
// [NewAir] starts supplicants that hear each other. Each exports fi.w1.wpa_supplicant1 with its tree of objects (interfaces,
// peers, groups, persistent groups), takes exactly the types that the real one takes (an unknown key, or u where i is expected,
// is InvalidArgs), and answers one call after the other. Searching, GO negotiation as either side with button and PIN,
// autonomous groups and joining, invitations, persistent groups and their re-invocation, and all ends follow from the calls.
// [Fault] and the methods of [Supplicant] make it lose answers, answer errors or nothing at all, say what is not so, forget
// objects, let its name go, or crash. Service discovery, P2PS, NFC and rfkill are not there.
//
// # Recordings
//
// What a supplicant says in a situation is taken from the files in testdata: all that real supplicants of version 2.10 and
// package wpa said to each other on D-Bus while the suite of package contract ran in the lab's guest. A file is one step of the
// suite; every line is one message with its fields separated by tabs:
//
//	node  call|reply|error|signal  path  interface.member  values...
//
// "~" in a path stands for /fi/w1/wpa_supplicant1; "Properties", "Root", "P2PDevice", "WPS", "Interface" and so on stand for
// the interfaces; lines that begin with "# " name the part of the step. Values are in the form of [Line.String]. Addresses,
// SSIDs, passphrases and PINs are the same in every recording (02:00:00:00:00:0a is the device address of node a), and no
// secret of a real group is in them. To record again:
//
//	sh wpa/wpatest/record
//
// The tests of this package say each recorded call to a scripted supplicant and compare the answers.
package wpatest
