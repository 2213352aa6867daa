#include "textflag.h"

// The state of BLAKE3's compression function is Z0 to Z15 and the message Z16 to Z31: each register has one word of 16 lanes.

// The words of the message, where TRANSPOSE leaves them.
#define M0 Z16
#define M1 Z18
#define M2 Z17
#define M3 Z19
#define M4 Z20
#define M5 Z22
#define M6 Z21
#define M7 Z23
#define M8 Z24
#define M9 Z26
#define M10 Z25
#define M11 Z27
#define M12 Z28
#define M13 Z30
#define M14 Z29
#define M15 Z31

// LOAD reads 64 bytes of four lanes; R8 is the distance between lanes and R9 three times that.
#define LOAD(base, a, b, c, d) \
	VMOVDQU32 (base), a        \
	VMOVDQU32 (base)(R8*1), b  \
	VMOVDQU32 (base)(R8*2), c  \
	VMOVDQU32 (base)(R9*1), d

#define UNPACK32(a, b, t)  \
	VPUNPCKLDQ b, a, t \
	VPUNPCKHDQ b, a, b \
	VMOVDQA64 t, a

#define UNPACK64(a, b, t)   \
	VPUNPCKLQDQ b, a, t \
	VPUNPCKHQDQ b, a, b \
	VMOVDQA64 t, a

// UNPACK brings words of the same number of four lanes together.
#define UNPACK(a, b, c, d)    \
	UNPACK32(a, b, Z8)    \
	UNPACK32(c, d, Z9)    \
	UNPACK64(a, c, Z10)   \
	UNPACK64(b, d, Z11)

#define SHUFFLE(a, b, t)             \
	VSHUFI32X4 $0x88, b, a, t    \
	VSHUFI32X4 $0xdd, b, a, b    \
	VMOVDQA64 t, a

// SPREAD brings together what UNPACK made of the same words, of all lanes.
#define SPREAD(a, b, c, d)   \
	SHUFFLE(a, b, Z8)    \
	SHUFFLE(c, d, Z9)    \
	SHUFFLE(a, c, Z10)   \
	SHUFFLE(b, d, Z11)

#define TRANSPOSE                   \
	UNPACK(Z16, Z17, Z18, Z19)  \
	UNPACK(Z20, Z21, Z22, Z23)  \
	UNPACK(Z24, Z25, Z26, Z27)  \
	UNPACK(Z28, Z29, Z30, Z31)  \
	SPREAD(Z16, Z20, Z24, Z28)  \
	SPREAD(Z17, Z21, Z25, Z29)  \
	SPREAD(Z18, Z22, Z26, Z30)  \
	SPREAD(Z19, Z23, Z27, Z31)

// HALF is the first or the second half of four G functions (specification, section 2.2).
#define HALF(a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3, m0, m1, m2, m3, r, s) \
	VPADDD m0, a0, a0  \
	VPADDD m1, a1, a1  \
	VPADDD m2, a2, a2  \
	VPADDD m3, a3, a3  \
	VPADDD b0, a0, a0  \
	VPADDD b1, a1, a1  \
	VPADDD b2, a2, a2  \
	VPADDD b3, a3, a3  \
	VPXORD a0, d0, d0  \
	VPXORD a1, d1, d1  \
	VPXORD a2, d2, d2  \
	VPXORD a3, d3, d3  \
	VPRORD r, d0, d0   \
	VPRORD r, d1, d1   \
	VPRORD r, d2, d2   \
	VPRORD r, d3, d3   \
	VPADDD d0, c0, c0  \
	VPADDD d1, c1, c1  \
	VPADDD d2, c2, c2  \
	VPADDD d3, c3, c3  \
	VPXORD c0, b0, b0  \
	VPXORD c1, b1, b1  \
	VPXORD c2, b2, b2  \
	VPXORD c3, b3, b3  \
	VPRORD s, b0, b0   \
	VPRORD s, b1, b1   \
	VPRORD s, b2, b2   \
	VPRORD s, b3, b3

// CYCLE permutes half of the message for the next round: each word becomes the one after it.
#define CYCLE(a, b, c, d, e, f, g, h)  \
	VMOVDQU64 a, 0(SP)         \
	VMOVDQA64 b, a             \
	VMOVDQA64 c, b             \
	VMOVDQA64 d, c             \
	VMOVDQA64 e, d             \
	VMOVDQA64 f, e             \
	VMOVDQA64 g, f             \
	VMOVDQA64 h, g             \
	VMOVDQU64 0(SP), h

// STORE writes four words of the lanes k, k+4, k+8 and k+12, 32 bytes for each lane.
#define STORE(a, at)                      \
	VEXTRACTI32X4 $0, a, at(DI)       \
	VEXTRACTI32X4 $1, a, at+128(DI)   \
	VEXTRACTI32X4 $2, a, at+256(DI)   \
	VEXTRACTI32X4 $3, a, at+384(DI)

// func compress16(out *[16][8]uint32, in *byte, stride, blocks int, counters *[2][16]uint32, flags, first, last uint32)
TEXT ·compress16(SB), NOSPLIT, $64-52
	MOVQ out+0(FP), DI
	MOVQ in+8(FP), SI
	MOVQ stride+16(FP), R8
	MOVQ blocks+24(FP), CX
	MOVQ counters+32(FP), DX
	MOVL flags+40(FP), R13
	MOVL first+44(FP), AX
	ORL  R13, AX
	LEAQ (R8)(R8*2), R9
	LEAQ (SI)(R8*4), R10
	LEAQ (R10)(R8*4), R11
	LEAQ (R11)(R8*4), R12

	MOVL $0x6a09e667, BX
	VPBROADCASTD BX, Z0
	MOVL $0xbb67ae85, BX
	VPBROADCASTD BX, Z1
	MOVL $0x3c6ef372, BX
	VPBROADCASTD BX, Z2
	MOVL $0xa54ff53a, BX
	VPBROADCASTD BX, Z3
	MOVL $0x510e527f, BX
	VPBROADCASTD BX, Z4
	MOVL $0x9b05688c, BX
	VPBROADCASTD BX, Z5
	MOVL $0x1f83d9ab, BX
	VPBROADCASTD BX, Z6
	MOVL $0x5be0cd19, BX
	VPBROADCASTD BX, Z7

block:
	CMPQ CX, $1
	JNE  more
	ORL  last+48(FP), AX

more:
	LOAD(SI, Z16, Z17, Z18, Z19)
	LOAD(R10, Z20, Z21, Z22, Z23)
	LOAD(R11, Z24, Z25, Z26, Z27)
	LOAD(R12, Z28, Z29, Z30, Z31)
	TRANSPOSE

	MOVL $0x6a09e667, BX
	VPBROADCASTD BX, Z8
	MOVL $0xbb67ae85, BX
	VPBROADCASTD BX, Z9
	MOVL $0x3c6ef372, BX
	VPBROADCASTD BX, Z10
	MOVL $0xa54ff53a, BX
	VPBROADCASTD BX, Z11
	VMOVDQU32 (DX), Z12
	VMOVDQU32 64(DX), Z13
	MOVL $64, BX
	VPBROADCASTD BX, Z14
	VPBROADCASTD AX, Z15

	MOVL $7, BX

round:
	HALF(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15, M0, M2, M4, M6, $16, $12)
	HALF(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15, M1, M3, M5, M7, $8, $7)
	HALF(Z0, Z1, Z2, Z3, Z5, Z6, Z7, Z4, Z10, Z11, Z8, Z9, Z15, Z12, Z13, Z14, M8, M10, M12, M14, $16, $12)
	HALF(Z0, Z1, Z2, Z3, Z5, Z6, Z7, Z4, Z10, Z11, Z8, Z9, Z15, Z12, Z13, Z14, M9, M11, M13, M15, $8, $7)
	CYCLE(M0, M2, M3, M10, M12, M9, M11, M5)
	CYCLE(M1, M6, M4, M7, M13, M14, M15, M8)
	DECQ BX
	JNZ  round

	VPXORD Z8, Z0, Z0
	VPXORD Z9, Z1, Z1
	VPXORD Z10, Z2, Z2
	VPXORD Z11, Z3, Z3
	VPXORD Z12, Z4, Z4
	VPXORD Z13, Z5, Z5
	VPXORD Z14, Z6, Z6
	VPXORD Z15, Z7, Z7

	ADDQ $64, SI
	ADDQ $64, R10
	ADDQ $64, R11
	ADDQ $64, R12
	MOVL R13, AX
	DECQ CX
	JNZ  block

	UNPACK(Z0, Z1, Z2, Z3)
	UNPACK(Z4, Z5, Z6, Z7)
	STORE(Z0, 0)
	STORE(Z4, 16)
	STORE(Z2, 32)
	STORE(Z6, 48)
	STORE(Z1, 64)
	STORE(Z5, 80)
	STORE(Z3, 96)
	STORE(Z7, 112)
	VZEROUPPER
	RET
