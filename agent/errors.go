package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"nigh/agent/clean"
	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/message"
	"nigh/agent/pairing"
	"nigh/agent/policy"
	"nigh/agent/session"
	"nigh/agent/share"
	"nigh/agent/store"
	"nigh/agent/transfer"
	"nigh/agent/trust"
	"nigh/link"
	"nigh/wpa"
)

// failed is explain for a method that returns error: nil stays nil.
func failed(err error) error {
	if err == nil {
		return nil
	}
	return explain(err)
}

// Explain turns an error of [New] or [Agent.Run] into what a person reads.
func Explain(err error) *control.Error { return explain(err) }

// explain turns an error of any package below into a code, a plain sentence and
// one thing to do. It is the only place where that happens.
func explain(err error) *control.Error {
	if e, ok := errors.AsType[*control.Error](err); ok {
		return e
	}
	if locked, ok := errors.AsType[store.ErrLocked](err); ok {
		return &control.Error{
			Code:    control.CodeBusy,
			Message: fmt.Sprintf("another agent (process %d) already uses the state in %s", locked.PID, locked.Dir),
			Hint:    "use that one, or give this one a folder of its own with --state",
		}
	}
	if code := transfer.Code(err); code != "" && code != "internal" {
		return explainReceiving(code, "", "the other side")
	}
	if code := message.Code(err); code != "" && code != "internal" {
		return explainMessage(code, "the device")
	}
	for _, e := range explanations {
		if errors.Is(err, e.is) {
			message := e.message
			if message == "" {
				message = sentence(err)
			}
			return &control.Error{Code: e.code, Message: clean.Text(message), Hint: e.hint}
		}
	}
	if hint := wpa.Hint(err); hint != "" {
		return &control.Error{Code: radioCode(err), Message: "Wi-Fi Direct: " + clean.Text(last(err)), Hint: hint}
	}
	return &control.Error{Code: control.CodeFailed, Message: clean.Text(sentence(err)), Hint: "nigh doctor looks for the cause"}
}

// explanations are the errors with words of their own; an empty message means
// the error's own text.
var explanations = []struct {
	is            error
	code          string
	message, hint string
}{
	{ErrConfig, control.CodeUsage, "", "correct it, then start again"},
	{policy.ErrPolicy, control.CodeUsage, "", "the admin of this machine has to correct it; until then nigh does not start, so as not to do what it may not"},
	{trust.ErrRules, control.CodePermission, "the policy of this machine does not allow to trust that device", "nigh config show --origin says what the policy has; ask the admin"},
	{trust.ErrNoKey, control.CodeUsage, "there is no device key in that file", "export it with nigh trust export --key"},
	{identity.ErrSealed, control.CodeUsage, "the device key in that file is damaged, or sealed in a way that nigh does not know", "export it again: nigh trust export --key"},
	{identity.ErrPassphrase, control.CodeUsage, "that is not the passphrase, or the file is damaged", "try again; nothing was changed"},
	{identity.ErrWeak, control.CodeUsage, "a passphrase has 10 characters or more", "several words make a good one"},
	{trust.ErrDocument, control.CodeUsage, "", "export it again on the other machine: nigh trust export"},
	{trust.ErrPermission, control.CodeUsage, "", "see: nigh trust set --help"},
	{identity.ErrDamaged, control.CodeFailed, "", "restore the key file from a backup, or move it away to begin with a new identity"},
	{trust.ErrUnknown, control.CodeNotFound, "that device is not in the trust list", "nigh trust list shows it"},
	{trust.ErrFull, control.CodeFailed, "the trust list is full", "remove devices you no longer know"},
	{trust.ErrZeroID, control.CodeUsage, "that is no device ID", "run nigh id on the other device"},
	{share.ErrFolder, control.CodeUsage, "", "choose a folder with what others may have"},
	{share.ErrName, control.CodeUsage, "", "give another one with --name: at most 64 characters, none of them / or invisible"},
	{share.ErrExists, control.CodeUsage, "", "nigh share list shows it; nigh share remove ends it"},
	{share.ErrFull, control.CodeFailed, "", "nigh share remove ends one"},
	{share.ErrUnknown, control.CodeNotFound, "this device has no such share", "nigh share list shows them"},
	{trust.ErrBlocked, control.CodePermission, "that device is blocked here", "nigh trust add with its ID takes the block away"},
	{session.ErrNoAddress, control.CodeAway, "the device is not near", "start nigh there and bring it closer, or connect a cable"},
	{session.ErrSelf, control.CodeUsage, "that is this device itself", "nigh peers lists the others"},
	{session.ErrBlocked, control.CodePermission, "that device is blocked here", "nigh trust add with its ID takes the block away"},
	{session.ErrCrowded, control.CodeBusy, "as many devices are connected as the settings or the policy allow", "nigh config show --origin has peers.max; wait until one is away"},
	{session.ErrRefused, control.CodeRefused, "the device has blocked this one", "ask its user"},
	{session.ErrWrongDevice, control.CodeAway, "another device answers at its address", "check that it is on and near; nigh sends to no other"},
	{session.ErrNotNigh, control.CodeAway, "what answers there is not nigh", "check the address, and that nigh runs there"},
	{session.ErrUnreachable, control.CodeAway, "the device does not answer", "check that nigh runs there, and its firewall"},
	{session.ErrLost, control.CodeAway, "the connection was lost", "it comes back by itself when the device is near"},
	{pairing.ErrBadCode, control.CodeUsage, "that is not a setup code", "type it as nigh setup-code prints it there: 17 characters, the last one finds mistakes"},
	{pairing.ErrWrongCode, control.CodeRefused, "that is not the setup code of this device", "nigh setup-code prints it there; a few wrong ones lock it"},
	{pairing.ErrLocked, control.CodeRefused, "the device takes no setup code for now, after wrong ones", "wait, or run nigh setup-code --new there, or pair without --code"},
	{pairing.ErrBusy, control.CodeBusy, "one of the devices is pairing already", "answer or cancel that; or begin on both devices at once"},
	{pairing.ErrTooOften, control.CodeBusy, "the other device takes no more from strangers just now: too many ask it, or this one asked too often", "wait a minute, or begin on the other device"},
	{pairing.ErrRefused, control.CodeRefused, "the other side said no; nothing is trusted", "compare the codes with its user and try again"},
	{pairing.ErrCancelled, control.CodeFailed, "the pairing was cancelled here; nothing is trusted", ""},
	{pairing.ErrExpired, control.CodeTimeout, "not both said yes within a minute; nothing is trusted", "try again, with somebody at the other device"},
	{pairing.ErrTampered, control.CodeRefused, "the other device could not prove what it said; nothing is trusted", "somebody may be in between: pair over another link, or by ID"},
	{pairing.ErrOld, control.CodeFailed, "the nigh on the other device cannot pair yet", "update it, or trust each other by ID: nigh trust add"},
	{pairing.ErrProtocol, control.CodeFailed, "the other device does not keep to the protocol; nothing is trusted", "update nigh on both sides"},
	{pairing.ErrLost, control.CodeAway, "the connection was lost; pair again", "bring the devices closer together"},
	{pairing.ErrOff, control.CodeRefused, "pairing is switched off on one of the devices, by the policy of that machine", "ask its admin; nigh config show --origin says it of this one"},
	{pairing.ErrUnknown, control.CodeNotFound, "there is no such pairing, or it is over", "nigh inbox lists what waits"},
	{errNoRadio, control.CodeNoRadio, "Wi-Fi Direct is not available here", "nigh doctor says what is missing; LAN and cable work without it"},
	{errNoGroup, control.CodeNotFound, "this device is not in such a Wi-Fi Direct group", "nigh group show lists the groups"},
	{errAbandoned, control.CodeFailed, "forming the group was given up: somebody left", ""},
	{errUnsettled, control.CodeTimeout, "the group is up, but this device has no address in it yet", "wait a moment: nigh group show has the address when it is there; nigh group leave ends the group"},
	{errStuck, control.CodeTimeout, "the radio does not let go of the group", "restart wpa_supplicant, which ends it: systemctl restart wpa_supplicant"},
	{errElsewhere, control.CodeAway, "the device did not join the group of this one", "have it leave the group it is in: nigh group leave"},
	{errBadOwner, control.CodeFailed, "", "make the group on the other device, or set intent in the configuration to try it all the same"},
	{errNotProved, control.CodeRefused, "what answered could not prove to be that device", "check on both that each trusts the other: nigh trust list; a radio near may repeat what the device says"},
	{errNoIdentity, control.CodeTimeout, "the group is up, but the device does not answer", "start nigh on it"},
	{errAway, control.CodeAway, "the device is not near", "start nigh there and bring it closer"},
	{link.ErrDenied, control.CodePermission, "this user may not set up network links", "run the agent as the service: systemctl start nigh@USER"},
	{link.ErrNoSubnet, control.CodeFailed, "every subnet for a group is taken on this machine", "leave one of its networks"},
	{context.DeadlineExceeded, control.CodeTimeout, "it took too long", "try again closer to the other device"},
	{context.Canceled, control.CodeFailed, "it was cancelled", ""},
	{fs.ErrPermission, control.CodePermission, "", "check who owns it"},
}

// radioCode is the code of an error of package wpa.
func radioCode(err error) string {
	for _, c := range []struct {
		is   error
		code string
	}{
		{wpa.ErrBusy, control.CodeBusy}, {wpa.ErrPeerGone, control.CodeAway}, {wpa.ErrTimeout, control.CodeTimeout},
		{wpa.ErrRejected, control.CodeRefused}, {wpa.ErrWrongPIN, control.CodeRefused}, {wpa.ErrDenied, control.CodePermission},
		{wpa.ErrBadMethod, control.CodeUsage}, {wpa.ErrNoGroup, control.CodeNotFound},
		{wpa.ErrOverlap, control.CodeBusy}, {wpa.ErrChannel, control.CodeFailed}, {wpa.ErrMethod, control.CodeFailed},
		{wpa.ErrFormation, control.CodeFailed},
	} {
		if errors.Is(err, c.is) {
			return c.code
		}
	}
	return control.CodeNoRadio
}

// sentence makes a readable line of an error's text: the package names that
// each layer put before it are for logs.
func sentence(err error) string {
	s := err.Error()
	for {
		before, after, ok := strings.Cut(s, ": ")
		if !ok || strings.ContainsAny(before, " /\"") {
			return s
		}
		s = after
	}
}

// last is the innermost part of an error's text.
func last(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return sentence(err)
		}
		err = inner
	}
}

// unreadable explains why a path cannot be sent.
func unreadable(path string, err error) *control.Error {
	e := &control.Error{Code: control.CodeUnreadable, Message: clean.Text(path) + " cannot be read", Hint: "check the path, and that the agent's user may read it"}
	if errors.Is(err, fs.ErrNotExist) {
		e.Message, e.Hint = clean.Text(path)+" does not exist", "check the path"
	}
	return e
}

// explainCode says what the code of a failed transfer means. detail is more
// about it, escaped, or "".
func explainCode(code, detail, peer string) *control.Error {
	e, ok := transferWords[code]
	if !ok {
		e = control.Error{Code: control.CodeFailed, Message: "the transfer failed", Hint: "try again; nigh doctor looks for the cause"}
	}
	e.Message = strings.ReplaceAll(e.Message, "PEER", peer)
	e.Hint = strings.ReplaceAll(e.Hint, "PEER", peer)
	if detail != "" {
		e.Message += " (" + detail + ")"
	}
	return &e
}

// explainReceiving is explainCode for a transfer that is received: it was this device
// that said no.
func explainReceiving(code, detail, peer string) *control.Error {
	e, ok := receiveWords[code]
	if !ok {
		return explainCode(code, detail, peer)
	}
	e.Message = strings.ReplaceAll(e.Message, "PEER", peer)
	if detail != "" {
		e.Message += " (" + detail + ")"
	}
	return &e
}

// receiveWords are the sentences that differ for who receives.
var receiveWords = map[string]control.Error{
	"off":       {Code: control.CodePermission, Message: "receiving is off on this device", Hint: "nigh config show --origin says where it was switched off"},
	"size":      {Code: control.CodePermission, Message: "it is larger than what this device takes from PEER at once", Hint: "nigh trust list and nigh config show have the bounds"},
	"folder":    {Code: control.CodePermission, Message: "the folder to receive into cannot be used", Hint: "check that it exists and is yours, then nigh resume, or accept it --into another"},
	"disk_full": {Code: control.CodeDiskFull, Message: "the disk became full", Hint: "free some space, then nigh resume; what arrived is kept"},
	"quota":     {Code: control.CodePermission, Message: "it is more than what is left of the quota of PEER", Hint: "nigh trust set has --quota to raise it and --reset-quota to count anew"},
}

// transferWords are the sentences for the codes of package transfer.
var transferWords = map[string]control.Error{
	"no_space":    {Code: control.CodeDiskFull, Message: "there is not enough free space to receive this", Hint: "free some space, or accept it --into another disk"},
	"disk_full":   {Code: control.CodeDiskFull, Message: "the disk of PEER became full", Hint: "what arrived is kept; the rest goes when space is freed and it is resumed there"},
	"changed":     {Code: control.CodeFailed, Message: "the file changed while it was being sent", Hint: "send it again when nothing writes to it"},
	"unreadable":  {Code: control.CodeUnreadable, Message: "a file cannot be read on the sending side", Hint: "check that the agent's user may read it"},
	"refused":     {Code: control.CodeRefused, Message: "PEER refused it", Hint: "ask its user"},
	"off":         {Code: control.CodeRefused, Message: "PEER receives nothing: that is switched off there", Hint: "ask its user"},
	"size":        {Code: control.CodeRefused, Message: "it is larger than what PEER takes from this device at once", Hint: "send it in parts, or ask its user"},
	"quota":       {Code: control.CodeRefused, Message: "it is more than what PEER still takes from this device: the quota there is used up", Hint: "ask its user"},
	"cancelled":   {Code: control.CodeFailed, Message: "it was cancelled"},
	"verify":      {Code: control.CodeFailed, Message: "PEER sent wrong bytes twice; nothing of them was kept", Hint: "check that device's disk and memory, then send again"},
	"protocol":    {Code: control.CodeFailed, Message: "PEER does not keep to the protocol", Hint: "update nigh on both sides"},
	"peer_gone":   {Code: control.CodeAway, Message: "PEER is away", Hint: "it goes on by itself when PEER is near again"},
	"paused":      {Code: control.CodeFailed, Message: "PEER paused it"},
	"withdrawn":   {Code: control.CodeFailed, Message: "PEER no longer offers it", Hint: "ask for it to be sent again"},
	"too_large":   {Code: control.CodeUsage, Message: "it is larger than nigh can send at once", Hint: "send it in parts"},
	"outbox_full": {Code: control.CodeBusy, Message: "the outbox is full", Hint: "nigh outbox lists what waits; nigh cancel takes something back"},
	"vanished":    {Code: control.CodeUnreadable, Message: "what was to be sent is no longer there", Hint: "send it again from where it is now"},
	"busy":        {Code: control.CodeBusy, Message: "too many offers wait for an answer", Hint: "answer or cancel some first"},
	"exists":      {Code: control.CodeFailed, Message: "a file of that name is already there"},
	"name":        {Code: control.CodeFailed, Message: "a file's name cannot be used on this disk", Hint: "accept it --into another disk, or have it renamed"},
	"file_size":   {Code: control.CodeFailed, Message: "a file is larger than one on that disk may be", Hint: "receive it into a folder on another disk"},
	"folder":      {Code: control.CodeFailed, Message: "PEER cannot use its folder to receive into", Hint: "what arrived is kept; the rest goes when it is resumed there"},
	"some_failed": {Code: control.CodePartial, Message: "some files failed; the rest is there", Hint: "send the missing ones again"},
	"nothing":     {Code: control.CodeUsage, Message: "there is nothing to send", Hint: "name a file or folder"},
	"not_regular": {Code: control.CodeUsage, Message: "only files and folders can be sent", Hint: "links and devices are left out"},
	"not_found":   {Code: control.CodeNotFound, Message: "no such transfer", Hint: "nigh transfers lists them"},
	"state":       {Code: control.CodeUsage, Message: "that is not possible in the state it is in", Hint: "nigh transfers shows it"},
}
