package transfer

import "time"

// MaxRunning is how many transfers are received at once; further ones are queued.
const MaxRunning = 4

// Devices that one transfer is fetched from at once.
const (
	DefaultSources = 4
	MaxSources     = 16 // each has a connection and buffers of its own
)

// Every bound of the package: what a peer may send, hold or make us wait. doc.go shows the ones that are part of the protocol.
const (
	// Offers.
	maxOfferBody       = 64 << 10  // bytes of JSON in an offer
	maxStateBody       = 4 << 10   // bytes of JSON in a state message
	maxErrorBody       = 4 << 10   // bytes of a refusal that are read
	maxTopNames        = 64        // names shown in an offer
	maxLabel           = 255       // bytes of a label
	maxEntries         = 1_000_000 // files and directories of a transfer
	maxManifest        = 64 << 20  // bytes of an encoded manifest
	maxFileSize        = 4 << 40   // bytes of one file: its groups are then 16 MiB
	maxTotal           = 1 << 60   // bytes of a transfer; sums of sizes cannot overflow
	maxWaitingPerPeer  = 16        // offers of one peer that wait for an answer
	maxWaiting         = 256       // offers of all peers that wait for an answer
	maxStrangerWaiting = 4         // of a peer that is not trusted
	maxStrangers       = 32        // of all that are not trusted, beside the others
	maxQueuedPerPeer   = 256       // unfinished transfers from one peer
	maxSending         = 256       // unfinished transfers to send: the outbox ..
	maxOutbox          = 128 << 20 // .. and bytes of their manifests
	maxHistory         = 1000      // finished transfers that are remembered
	maxNever           = 64        // offers that were never accepted and are remembered beside them
	maxFailures        = 64        // failed files that are named; more are counted
	maxSkippedExamples = 16        // skipped files that are named; more are counted

	// Requests for content.
	manifestPage   = 4 << 20  // bytes of a manifest page
	maxRange       = 16 << 20 // bytes of one range request (at least one group)
	askMin         = 4 << 20  // bytes we ask for at once: at least ..
	askMax         = 8 << 20  // .. and at most
	askParts       = 128      // .. about this part of a transfer, for what is under way is lost when a side is killed
	askAgain       = 1 << 20  // .. and at least so much, not askMin, once a transfer was broken off: it may be so again
	askSoon        = time.Second
	askLate        = 4 * time.Second // we ask for more while answers take less than askSoon, and for less when they take more than this
	batchFile      = 1 << 20         // bytes of the largest file in a batch
	aheadFiles     = 64              // files of a batch opened at once
	aheadDirs      = 16              // names of a folder to send opened at once as directories, at each depth of it
	batchEntries   = 1024            // files in a batch
	batchBytes     = 8 << 20         // bytes in a batch
	maxBatchBody   = 16 << 10        // bytes of JSON in a batch request
	maxLeaves      = 1024            // leaves in one answer
	inFlight       = 2               // bulk requests at once to one peer, whatever they are for
	maxWrong       = 8               // files that a peer may send wrong twice until it is asked for nothing more
	maxHashed      = 65_536          // groups whose leaves are remembered, 2 MiB ..
	maxHashedFiles = 256             // .. of so many files
	maxServing     = 8               // bulk requests at once that one transfer is served

	// Time. All are measured by the monotonic clock.
	controlTimeout = 10 * time.Second       // an offer, a state message
	firstByte      = 15 * time.Second       // until a bulk answer begins: disks spin up
	stall          = 10 * time.Second       // without a byte of a bulk answer
	serveStall     = 30 * time.Second       // until a receiver takes the next group
	senderIdle     = 10 * time.Second       // without a request until a sender calls its peer away
	retryFirst     = 300 * time.Millisecond // first wait after a lost connection, doubled each time
	retryLast      = 10 * time.Second       // longest wait
	busyWait       = 250 * time.Millisecond // until a peer that is busy is asked again ..
	busyTries      = 40                     // .. so often
	pathTries      = 1                      // that a request is made again at once when its connection broke
	lateRequest    = 2 * time.Second        // in which a request may come that was made before its receiver said that it stopped
	renewAfter     = 10 * time.Second       // until what waits in the outbox is looked at again
	retries        = 8                      // then only Wake goes on
	tellTimeout    = 5 * time.Second        // for the last word before a transfer is called done
	slowTurn       = 30 * time.Second       // in which a pull brings less than slowBytes: it gives up its turn to one that waits
	slowBytes      = 128 << 10              // bytes
	manifestTurns  = 4                      // times slowTurn for the manifest
	progressEvery  = 250 * time.Millisecond // between two reports of progress of one transfer

	// Go's scheduler while content moves, see steady.
	spareProcs  = 2                      // of the runtime's processors, beside those of the machine
	steadyCall  = 8 * time.Millisecond   // of the call that keeps one busy: shorter than the 10 ms after which the runtime takes it
	steadyAfter = 100 * time.Millisecond // after the last request

	// Several holders.
	maxAsked      = 64                     // devices that one transfer asks whether they have it
	haveRoots     = 1000                   // hashes in one question
	haveEntries   = 16                     // files in one question whose groups are asked for
	maxHaveBody   = 128 << 10              // bytes of JSON in a question
	maxHaveAnswer = 1 << 20                // bytes of JSON in an answer
	haveRate      = 40                     // questions of one device in a second ..
	haveBurst     = 80                     // .. and at once
	maxAskers     = 1024                   // devices whose rate is remembered
	maxGrants     = 8192                   // files that devices were told they may have
	haveTime      = 5 * time.Second        // for an answer
	nearEvery     = time.Second            // between two looks for devices near
	followMin     = 100 * time.Millisecond // between two questions to one device while it gets more ..
	followMax     = time.Second            // .. and while it does not
	rootsAgain    = 30 * time.Second       // until it is asked for the same hashes again
	holderStall   = 3 * time.Second        // without a byte of another holder than the transfer's own peer
	askTime       = 500 * time.Millisecond // what one request of several holders is to take
	takeLook      = 250 * time.Millisecond // between two looks of an idle worker at what others are slow to bring
	proveNext     = 400 * time.Millisecond // without a leaf until another holder is asked for them
	takeSilent    = 400 * time.Millisecond // without a byte until an idle worker takes a request over
	stuckAfter    = 30 * time.Second       // without anything until a transfer waits for its peer to come back
	maxSeeds      = 16                     // received contents that are served to others after they are done ..
	seedLife      = 10 * time.Minute       // .. so long after they were last asked for

	// One content to several devices.
	swarmPatience = 2 * time.Second        // for another receiver to show up
	swarmDry      = 3 * time.Second        // without anything from the others until the sender is asked for what they have
	swarmFull     = 200 * time.Millisecond // until a sender is asked again that has given all to others
	giveAgain     = 2 * time.Second        // until a group is given to a second device that says nobody has it
	giveLate      = 10 * time.Second       // .. and so long once half of all was given twice
	giveOnce      = 500 * time.Millisecond // .. and to the same one, which asks for it twice before it comes
	maxGiven      = 255                    // receivers that are told apart
	maxGivings    = 64                     // files of one source that are remembered
	maxGiveBody   = 64 << 10               // bytes of JSON in a request for any groups

	// Journal.
	journalBytes = 64 << 20 // bytes between two journal writes ..
	journalEvery = 10 * time.Second
	fewFiles     = 8    // files of a transfer that are synced one by one
	lookFiles    = 1024 // files of a transfer that are worth a goroutine to look at
	leafPage     = 256  // leaves in one journal value: 64 MiB of a file
)
