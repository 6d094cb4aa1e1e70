// Written by Scripts/unicode/make_library_tables.py with tokenizers 0.23.3 and Unicode 16.0.0; not edited by hand.

/// What parts of tokenizer.json's own library do not know of Unicode: it has tables of several ages.
enum LibraryData {
  /// Characters that have a decomposition it does not know. Entries `gap,count`, in base 36; gaps are between starts.
  static let decompositions: StaticString = """
    a2n,1 n3n,3 on,1 huo,1 r,1 bh,5 6,16 17,9 2c1,1 2,1 9,1 3,1 1g,1 2,2 12p,1 e7d,8 2fb,3 ium,10 3tm,1q 3ek,1 22s,a
    """

  /// Marks whose combining class it takes for 0. Entries `gap,count`, in base 36; gaps are between starts.
  static let classes: StaticString = """
    1kt,1 4a,9 1f,a 8k,1 fy,1 73,2 an,1 1nf,1 q2,g mv,5 rau,1 jy0,4 1x,5 8y,2 2a,3 21,b 1o,4 6m,1 jv,1 43,3 40,1 rf,\
    2 78,2 6,1 4d,1 2c,1 j,1 2a,1 ix,1 2,2 2b,1 bu,2 d0u,1 2wx,2 m8v,1 4h,7 am,1 1q,4 e8,4 76,2
    """

  /// Marks that `StripAccents` leaves, and others that it takes for marks. Entries `gap,count`, in base 36; gaps are between starts.
  static let marks: StaticString = """
    1kt,1 4a,9 1f,a 8k,1 70,6 2j,1 4v,1 1k,1 53,1 d,1 1n,2 1y,1 8p,1 k,1 1mv,1 6y,1 j4,g fn,2 5,1 73,5 rau,1 5v,1 js\
    5,4 1x,5 8y,2 29,4 22,b 1o,4 6m,1 3,2 27,1 3n,2 3o,1 5,2 37,1 6y,1 3h,9 a,1 3,1 2,4 5,5 6,1 f,2 3h,1 r2,f 78,6 7\
    ,2 4,4 5,1 2,2 3z,7 9,7 a,1 t,a 1e,7 8,4 c,1 a,b 1l,g iv,6 9,1 2,2 3,7 8,1 1v,5 6,2 3,5 9s,4 d,2 3,1 1d,7 a,5 s,\
    1 44m,1 7,f 8uv,i 2sx,1 1c,9 2t,1 c,2 is0,1a 1c,n 3fj,1 4h,7 am,1 1q,4 e8,4 76,2
    """

  /// Where `BertNormalizer` and category Mn differ. Entries `gap,count`, in base 36; gaps are between starts.
  static let accents: StaticString = """
    1kt,1 4a,9 1f,o 8k,1 70,6 2j,1 4v,1 1k,1 5g,1 1n,2 1y,1 8p,1 k,1 1nq,1 63,1 3a,2 fu,g mv,6 rau,1 49,1 1m,1 5a,1 \
    jmv,4 1x,5 8y,2 29,4 22,b 1o,4 6m,1 3,2 27,1 7b,1 6,1 33,1 3,1 6y,1 3k,6 j,1 2,1 2,1 f,2 2f,8 a,3 4,1 o,1 jk,1 7\
    l,9 a,2 76,2 3,1 5,1 41,4 6,2 6,1 x,a 1e,6 8,4 c,1 a,6 8,3 1d,d e,2 bc,7 8,6 7,1 2b,m o,7 8,2 3,2 3g,6 9,1 2,2 3\
    ,7 8,1 21,2 5,1 2,1 9o,2 d,2 1i,5 a,1 2,1 o,1 44m,1 7,f 8uv,c f,3 2si,1 45,1 isc,1a 1c,n 3bk,7 8,h j,7 8,2 3,5 2\
    x,1 4h,7 am,1 1q,4 e8,4 76,2 nq,7
    """

  /// Where `BertNormalizer` and the categories Cc, Cf and Co differ. Entries `gap,count`, in base 36; gaps are between starts.
  static let controls: StaticString = """
    1ow,2 2a,1 1g4r,1 6zn,g
    """

  /// Where it and the categories of punctuation differ. Entries `gap,count`, in base 36; gaps are between starts.
  static let punctuation: StaticString = """
    17h,1 rk,1 3d,1 e9,1 d,1 1yh,1 yp,2 1b,3 3pi,d f,c 182k,1 8v,1 4o,5 1d,4 g3,1 ej,2 3,2 38,5 f,2 3,1 eb,d 2h,1 aq\
    ,1 7d,3 4e,1 2l,8 2j,3 4,5 2q,a 69,1 2o,5 1b,2 hz,2 24,d 58,1 35e,2 c58,3 8a,4 97,1 nbx,1 nz,2
    """

  /// Characters that it knows no script of. Entries `gap,count`, in base 36; gaps are between starts.
  static let scripts: StaticString = """
    128,1 14,1 2v,1 1a,1 dc,3 2r,b g,v w,2 7,9 u,1 9,m 8u,3 3e,1 3o,6 2j,1 4v,1 1k,1 x,1 q,1 d,1 2h,1 m,1 d,1 4,1 1j\
    ,2 1y,1 79,1 3,1 3,1 2,6 a,1 8,1 8,2 4,1 e,1 k,1 1mn,1 8,1 a,1 6o,1 2x,1 g7,g 3x,1 2,2 1b,3 7g,2 7,17 19,3 1m,1 \
    3,1 70,5 jt,2 n4,1 14,3 1gw,1 z,3 f,1 9,q u,g 1r,1 1c,1 di,p c7,4 8i,2 3x,5 15,2 b,1 7k,1 59z,a g80,16 1jt,1 9,m\
     o,2 3,1 2,8 t,5 1m,1 5u,2 h4,6 fvg,1 am,g 3z,1 1b,2 pq,1 b5,3 g3,b c,f g,7 8,2 3,b c,f g,7 8,2 5,1g cg,6 7,16 1\
    7,9 hu,2 k,1 jc,14 1c,a g,12 15,t 11,2 6q,16 17,3 5,2 i,3 1m,18 1g,16 1s,q 1s,s 1c,n 40,6 2a,1 b,1 3b,4 3u,2 35,\
    3 70,1 1x,a b,1 3,1 2,12 13,a b,1 3,1 2,4 5,a b,2 a,2 3d,1 4,4 gq,2 o,k 22,1 12,7 5c,1o 74,7 9,1 3,8 9,2 3,u v,2\
     4,c l,a 28,8 a,1a 1c,b 12,20 28,2b 2o,g 28,a 5c,y 1c,a 7k,7 8,2 3,18 1b,1 2,2 3,9 h,a g,6 7,2 3,11 12,2 3,6 d,a\
     8w,p w,h i,15 18,t 36,1 g,1e 1r,1 32p,2r wv,13 1d,32z 8tc,1m 1v4,27 28,a hs,1m 74,2j 79,6 a,1 1c,9 2q,4 f,2 4ql\
    ,b li,df ek,a 6wh,4 5,7 8,2 5,81 8g,1 u,3 5,1 f,4 c,b0 58w,6y 74,c4 e8,1a 1c,n w,38 ih,2 5z,k w,k 42,7 2a6,v 11,\
    6 7f,1q 2n,1 35,19 1c,e g,a e,2 8y,v 1c,1m 1r,1 cx,16 74,17 1b,1 dd,7 8,4 5,2 3,f 9n,1 me,1w 40,1p ss,3 y,1 1p,4\
     1t,1 4z,6 vn,5 9,4 r,6 3h,3 7,5 2i,5 b,c g,1 5c,c g,2 1s,g v,1 9,8 9,2 e,1 d,4 j,x 1f,1a 1b,43 4f,e g,d g,a f,1\
    k 1r,f h,b h,9 g,43 44,2u xtv,9 38e,5 4mz,5rl 5s0,ha 3yo,3t7 3tc,38g
    """
}
