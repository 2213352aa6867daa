// Package wpa forms Wi-Fi Direct (P2P) groups through the D-Bus interface of wpa_supplicant.
//
// A [Radio] finds other P2P devices, forms groups with them in every way that wpa_supplicant 2.10 knows (GO negotiation,
// autonomous group and join, persistent group and invitation; push button and PIN in both roles), and tells what happens
// by events. It hides object paths, dictionaries, the difference between P2P and WPS, provision discovery and retries. It
// does not put addresses on interfaces (package link), does not discover services, and trusts nobody: a device's name and
// address are its own words.
//
// It is called by package agent. It follows the Wi-Fi P2P specification 1.7 (3.1.4 group formation, 3.1.5 invitation) as
// far as wpa_supplicant implements it.
//
// # State machines
//
// Four small machines run on one goroutine. Their input is signals of the supplicant, commands, results of calls and
// timers; calls run on a second goroutine, strictly one at a time. A nil error of Find, Connect or GroupAdd means nothing:
// progress is what signals say, and every state has a deadline. The test of the machine runs every row of this table.
//
//	machine     state       event                                 then
//	supplicant  Absent      owner of the name appears             Starting
//	supplicant  Starting    prepared                              Ready
//	supplicant  Starting    built without P2P                     NoP2P
//	supplicant  Starting    no interface                          Absent
//	supplicant  Starting    access denied                         Absent
//	supplicant  Ready       owner of the name is gone             Absent
//	supplicant  Ready       interface of the owner removed        Absent
//	discovery   Idle        Find                                  Social
//	discovery   Social      12 s                                  Progressive
//	discovery   Progressive time is over                          Idle
//	discovery   Social      Connect                               Paused
//	discovery   Paused      formation failed                      Social
//	discovery   Social      StopFind                              Idle
//	discovery   Idle        Listen                                Listening
//	discovery   Social      supplicant restarts                   Social
//	formation   Idle        Connect, peer unknown                 Seeking
//	formation   Seeking     DeviceFound of the peer               Waiting
//	formation   Seeking     20 s                                  Idle: ErrPeerGone
//	formation   Idle        Connect, push button                  Waiting
//	formation   Idle        Connect, no PIN yet                   Provision
//	formation   Provision   PIN from provision discovery          Waiting
//	formation   Provision   10 s                                  Waiting
//	formation   Idle        Connect, peer is group owner          Joining
//	formation   Idle        Connect, persistent group known       Inviting
//	formation   Idle        Connect, owner of that group heard    Seeking
//	formation   Seeking     owner found outside of the group      Inviting
//	formation   Idle        Connect while forming                 Idle: ErrBusy
//	formation   Waiting     GONegotiationRequest of the peer      Waiting
//	formation   Waiting     GONegotiationSuccess                  Negotiated
//	formation   Waiting     GONegotiationFailure 9, intent 15     Waiting
//	formation   Waiting     GONegotiationFailure 11               Idle: ErrRejected
//	formation   Waiting     GONegotiationFailure 10               Idle: ErrMethod
//	formation   Waiting     GONegotiationFailure 7                Idle: ErrChannel
//	formation   Waiting     GONegotiationFailure 7, only a wish   Waiting
//	formation   Waiting     GONegotiationFailure 1, peer is GO    Joining
//	formation   Waiting     invitation to the peer's group        Joining
//	formation   Waiting     seen again as group owner             Joining
//	formation   Waiting     GONegotiationFailure -1               Waiting
//	formation   Waiting     GONegotiationFailure -1, four times   Idle: ErrTimeout
//	formation   Waiting     nothing heard for seconds             Waiting
//	formation   Waiting     124 s                                 Idle: ErrTimeout
//	formation   Waiting     ctx ends                              Idle: context.Canceled
//	formation   Negotiated  InterfaceAdded                        Building
//	formation   Negotiated  25 s                                  Idle: ErrFormation
//	formation   Building    GroupStarted as client                Idle: group
//	formation   Building    GroupStarted as owner                 Building
//	formation   Building    owner, PeerJoined                     Idle: group
//	formation   Building    owner, no client for 20 s             Idle: ErrFormation
//	formation   Building    WpsFailed 18, GroupFormationFailure   Idle: ErrWrongPIN
//	formation   Building    WpsFailed 12, GroupFormationFailure   Idle: ErrOverlap
//	formation   Building    killed by NetworkManager              Idle: ErrKilledByNetworkManager
//	formation   Building    GroupFormationFailure                 Waiting
//	formation   Building    GroupFormationFailure three times     Idle: ErrFormation
//	formation   Building    GONegotiationRequest after 5 s        Waiting
//	formation   Building    client, no owner for 5 s              Waiting
//	formation   Joining     GroupStarted as client                Idle: group
//	formation   Joining     FREQ_CONFLICT                         Idle: ErrChannel
//	formation   Joining     peer has no such group any more       Waiting
//	formation   Idle        Connect, owner joined us before       Seeking
//	formation   Idle        Connect, group of the owner ended     Waiting
//	formation   Joining     nothing for 12 s                      Seeking
//	formation   Joining     nothing for 12 s, peer owns no group  Waiting
//	formation   Joining     GONegotiationRequest of the peer      Waiting
//	formation   Joining     65 s                                  Idle: ErrTimeout
//	formation   Joining     ctx ends, InterfaceAdded after 5 s    Idle: context.Canceled
//	formation   Inviting    InvitationResult 0                    Building
//	formation   Inviting    InvitationResult 8                    Waiting
//	formation   Inviting    GroupFormationFailure                 Inviting
//	formation   Inviting    20 s                                  Waiting
//	formation   Waiting     supplicant gone                       Idle: ErrSupplicantGone
//	group       Linked      PeerJoined                            Populated
//	group       Populated   PeerDisconnected                      Linked
//	group       Linked      no client for GroupIdle               Gone: no client for some time
//	group       Populated   GroupFinished                         Gone: ended by the radio
//	group       Populated   owner says goodbye                    Gone: ended by the other side
//	group       Populated   beacons lost                          Degraded
//	group       Degraded    State completed                       Populated
//	group       Degraded    GroupFinished                         Gone: the other side vanished
//	group       Populated   Leave                                 Gone: left
//	group       Populated   InterfaceRemoved                      Gone: removed by another program
//	group       Populated   Wi-Fi connection changes channel      Gone: the Wi-Fi connection changed channel
//	group       Populated   supplicant gone                       Gone: wpa_supplicant stopped or crashed
//
// # Channels
//
// A radio that can be on one channel only forms groups on that of its Wi-Fi connection, when it has one. Another frequency is
// [ErrChannel], as a [ChannelError] that says where the connection is; a frequency in Prefer is only a wish. When the access
// point goes to another channel, such a radio's group makes way.
//
// # Services
//
// [Radio.SetServices] advertises DNS-SD services before there is a group, and [Radio.DiscoverServices] asks others for theirs,
// by GAS frames in the course of a search. What comes is a device's own words.
//
// # Asking at the same moment
//
// Two devices that call Connect for each other at once form one group: the supplicants decide by their addresses, and when
// one of them is sure of a group of which the other knows nothing, the client gives it up after 5 s and both ask again.
//
// With PINs that cannot be. Each shows its own and waits for the other to type it: both get [ErrMethod] within seconds, and
// neither is blocked. One of the two, which callers can tell by the device addresses, then asks again with Connect; the other
// waits for RequestReceived and answers with Accept and the PIN of that side. A group owner that invites a device which asks
// to join with a PIN of its own at that moment gets ErrMethod from Connect too, and a RequestReceived to answer.
//
// An owner is not told that a client of a group that is up already had the wrong PIN: Accept returns [ErrWrongPIN] when that
// client asks again, which is then a new request, and [ErrTimeout] after 60 s when it does not.
//
// # Engines and NetworkManager
//
// NetworkManager removes every group that it did not start itself, 60 ms after GroupStarted, unless the D-Bus policy that
// nigh doctor installs keeps that signal from root's programs. The error is [ErrKilledByNetworkManager]; the network device
// that stays behind is removed. So a Radio has an [Engine], which [Choose] picks by what is found: the system's
// wpa_supplicant, one of our own for an adapter that nobody else uses, or NetworkManager as the one who forms groups, with
// [Limits].
//
// While its Wi-Fi is not connected, NetworkManager scans again and again, for up to ten seconds each time. A radio can do nothing
// else then, so scans of others are ended while a peer is asked and until a new group has settled.
//
// Other programs that do Wi-Fi Direct, such as gnome-network-displays, share the system's wpa_supplicant. A search is only
// ended when it was ours or a group is formed, and a request of theirs is answered by nobody but the caller of this package.
package wpa
