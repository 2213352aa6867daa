package session

import "time"

// Every bound of the package. What a peer can make grow, wait or repeat has a
// line here. LIMITS.md lists these and those of all other packages.
const (
	// Ports. The default port and how many after it are tried when it is taken.
	defaultPort = 7421
	portTries   = 16 // ports tried after the default one, when it is taken

	// Accepting.
	maxHandshakes      = 16              // connections that have not proved a key; as many more from where trusted devices were
	handshakeTimeout   = 5 * time.Second // to prove it
	maxAddresses       = 256             // addresses whose rates are remembered
	maxFriendAddresses = 1024            // addresses remembered at which trusted devices were

	// The budget of strangers: of one address, and of all together. A crowd of 300
	// devices that come at once to a link fits into the bursts; a flood costs a tenth
	// of one processor. Who is trusted is not counted, but for acceptRate.
	acceptRate            = 20        // connections per second from one address
	acceptBurst           = 40        // at once
	strangersArrivalRate  = 100       // connections per second: a handshake is 1 ms of processor time
	strangersArrivalBurst = 640       // at once: a crowd of 300, twice
	addressRequestRate    = 40        // requests per second
	addressRequestBurst   = 80        // at once
	strangersRequestRate  = 200       // requests per second
	strangersRequestBurst = 1280      // at once
	addressByteRate       = 128 << 10 // bytes of bodies per second
	addressByteBurst      = 512 << 10 // at once
	strangersByteRate     = 512 << 10 // bytes of bodies per second
	strangersByteBurst    = 2 << 20   // at once
	// Questions to the user: offers. Pairing has bounds of its own.
	addressQuestionPause   = 10 * time.Second // between two, on average
	addressQuestionBurst   = 8                // at once
	strangersQuestionPause = 2 * time.Second  // between two of all
	strangersQuestionBurst = 32               // of all at once

	// Connections that were accepted, or opened for the peer to ask on.
	// With 300 trusted devices near each has its control connection and may want
	// data; an idle one costs about 30 KiB.
	maxTrustedConns  = 1024 // of all trusted devices
	maxStrangerConns = 16   // of all strangers; a further one replaces the quietest
	maxPeerConns     = 8    // of one device; a further one replaces the quietest
	maxStrangerEach  = 4    // the same for a stranger

	// TLS.
	maxCertificate = 2 << 10 // bytes of DER

	// Requests of peers.
	maxHeader           = 8 << 10          // bytes of a request but its body
	readHeaderTimeout   = 5 * time.Second  // for them to come: a header that trickles in ends there
	maxBody             = 1 << 20          // bytes of a body; handlers have smaller bounds
	maxStrangerBody     = 64 << 10         // the same of a stranger: an offer of 64 names
	bodyTimeout         = 10 * time.Second // for it to come whole
	strangerAnswer      = 30 * time.Second // for a stranger to take an answer
	strangerRequestRate = 10               // per second on one connection
	strangerBurst       = 20               // at once
	maxRefused          = 20               // requests over the budget until the connection is closed
	idleTimeout         = 90 * time.Second // without a request
	maxDialBack         = 2                // at once for one peer

	// Our requests.
	maxResponseHeader     = 8 << 10          // bytes
	responseHeaderTimeout = 30 * time.Second // for an answer to begin
	maxControlConns       = 2                // to one peer
	maxBulkConns          = 2                // to one peer
	bulkIdle              = 30 * time.Second // until a connection for data is closed
	maxHello              = 4 << 10          // bytes of an answer to hello
	maxHelloName          = 64               // characters
	maxParked             = 3                // nigh/1r connections of a peer that wait for use
	maxPeers              = 256              // devices remembered that are neither held nor connected

	// Dialling.
	dialTimeout   = 10 * time.Second       // for all candidates together
	maxCandidates = 16                     // addresses of one device that are tried
	unknownCost   = 1 << 20                // of a path that the peer found and we know nothing of
	maxSameDials  = 2                      // of one address, when there was a kick in between
	dialStagger   = 250 * time.Millisecond // from one to the next (RFC 8305)
	dialRetry     = 50 * time.Millisecond  // while the link is not ready
	dialBackAfter = 250 * time.Millisecond // until a peer that is dialled for data is asked to dial
	warmTimeout   = 3 * time.Second        // for a connection that is opened in advance
	warmLife      = 4 * time.Second        // for it to be used; less than readHeaderTimeout of the other side
	maxOverlap    = 4                      // attempts to open one connection to a link-local address
	overlapAfter  = 250 * time.Millisecond // from one to the next

	// Holding.
	backoffMin   = 300 * time.Millisecond // after the first failure, doubled each time
	backoffMax   = 10 * time.Second       // at most
	helloEvery   = 30 * time.Second       // on a connection that stands
	helloTimeout = 10 * time.Second       // on a connection that is open
	// How long a held peer has to connect to us before we open a connection for it,
	// and how long it waits for that one when it cannot dial.
	reverseAfter = 500 * time.Millisecond
	reverseWait  = 3 * time.Second
	retireAfter  = time.Second // the connection that a better one replaces
	// A path that should carry data and does not is doubted: it is given up when
	// another one answers and it does not, so that a transfer stands still for about
	// a second. Without another way the kernel's patience counts.
	stallLook     = 100 * time.Millisecond // between two looks, while data is waited for
	stallAfter    = 400 * time.Millisecond // without a segment
	doubtPatience = 500 * time.Millisecond // for a hello on the path in doubt
	doubtEvery    = 2 * time.Second        // after it was found to carry, while nothing moves

	// Checks whether connections from outside get in.
	inboundTimeout  = 2500 * time.Millisecond // for the dial; a SYN is repeated after 1 s
	inboundPatience = 5 * time.Second         // for the answer
	inboundEvery    = 5 * time.Second         // for one device
	inboundBurst    = 4                       // at once
	inboundStranger = time.Second             // for all strangers
	inboundAtOnce   = 4                       // of all devices
	firstUserPort   = 1024                    // below are the services of others
	maxInbound      = 256                     // bytes of a question or an answer
	maxGreeting     = 512                     // bytes of the header that says who asks

	// Sockets. The keep-alive values find a silent peer in 9 to 10 s: the kernel
	// asks after keepIdle of silence, then every keepInterval, and gives up when
	// nothing was heard for userTimeout.
	keepIdle     = 5 * time.Second
	keepInterval = time.Second
	keepCount    = 5
	userTimeout  = 9 * time.Second
	// serveTimeout is the same where we serve: there a receiver that does not read
	// (a slow card, a paused transfer) counts as silent too and needs patience.
	serveTimeout = 30 * time.Second
	// notSentLowat bounds what waits unsent in the kernel, so that a cancel or a
	// change of path takes effect at once.
	notSentLowat = 128 << 10
	// While other requests are made, data is held to what its rate carries in
	// giveWayDelay, or in two round trips.
	giveWayDelay  = 15 * time.Millisecond
	giveWayEvery  = 50 * time.Millisecond // between two looks at the rate ..
	giveWayForget = 0.95                  // .. of which so much is left at the next
	giveWayAfter  = 5 * time.Second       // after the last of them
	minWindow     = 32 << 10
	maxWindow     = 16 << 20
	// flushBytes is how many bytes of records are gathered for one write: few enough
	// to stay in the processor's cache with what they are made from.
	flushBytes = 64 << 10
	// readBytes is the largest buffer below TLS; it grows with use.
	readBytes = 256 << 10
)
