// Written by Scripts/unicode/make_tables.py from Unicode 16.0.0; not edited by hand.

/// Scripts of all code points that have one.
enum ScriptData {
  /// Names, in the order of the numbers below.
  static let names: StaticString = """
    Common Inherited Latin Greek Cyrillic Armenian Hebrew Arabic Syriac Thaana Devanagari Bengali Gurmukhi Gujarat\
    i Oriya Tamil Telugu Kannada Malayalam Sinhala Thai Lao Tibetan Myanmar Georgian Hangul Ethiopic Cherokee Cana\
    dian_Aboriginal Ogham Runic Khmer Mongolian Hiragana Katakana Bopomofo Han Yi Old_Italic Gothic Deseret Tagalo\
    g Hanunoo Buhid Tagbanwa Limbu Tai_Le Linear_B Ugaritic Shavian Osmanya Cypriot Braille Buginese Coptic New_Ta\
    i_Lue Glagolitic Tifinagh Syloti_Nagri Old_Persian Kharoshthi Balinese Cuneiform Phoenician Phags_Pa Nko Sunda\
    nese Lepcha Ol_Chiki Vai Saurashtra Kayah_Li Rejang Lycian Carian Lydian Cham Tai_Tham Tai_Viet Avestan Egypti\
    an_Hieroglyphs Samaritan Lisu Bamum Javanese Meetei_Mayek Imperial_Aramaic Old_South_Arabian Inscriptional_Par\
    thian Inscriptional_Pahlavi Old_Turkic Kaithi Batak Brahmi Mandaic Chakma Meroitic_Cursive Meroitic_Hieroglyph\
    s Miao Sharada Sora_Sompeng Takri Caucasian_Albanian Bassa_Vah Duployan Elbasan Grantha Pahawh_Hmong Khojki Li\
    near_A Mahajani Manichaean Mende_Kikakui Modi Mro Old_North_Arabian Nabataean Palmyrene Pau_Cin_Hau Old_Permic\
     Psalter_Pahlavi Siddham Khudawadi Tirhuta Warang_Citi Ahom Anatolian_Hieroglyphs Hatran Multani Old_Hungarian\
     SignWriting Adlam Bhaiksuki Marchen Newa Osage Tangut Masaram_Gondi Nushu Soyombo Zanabazar_Square Dogra Gunj\
    ala_Gondi Hanifi_Rohingya Makasar Medefaidrin Old_Sogdian Sogdian Elymaic Nandinagari Nyiakeng_Puachue_Hmong W\
    ancho Chorasmian Dives_Akuru Khitan_Small_Script Yezidi Cypro_Minoan Old_Uyghur Tangsa Toto Vithkuqi Kawi Nag_\
    Mundari Garay Gurung_Khema Kirat_Rai Ol_Onal Sunuwar Todhri Tulu_Tigalari
    """

  /// Entries `gap,count,script`, in base 36; gaps are between starts.
  static let runs: StaticString = """
    0,1t,0 1t,q,2 q,6,0 6,q,2 q,1b,0 1b,1,2 1,f,0 f,1,2 1,5,0 5,n,2 n,1,0 1,v,2 v,1,0 1,ch,2 ch,13,0 13,5,2 5,5,0 5,\
    2,z 2,k,0 k,34,1 34,4,3 4,1,0 1,3,3 5,4,3 4,1,0 1,1,3 5,1,3 1,1,0 1,1,3 1,1,0 1,3,3 4,1,3 2,k,3 l,1r,3 1r,e,1i e\
    ,g,3 g,3p,4 3p,2,1 2,4p,4 4q,12,5 14,1e,5 1g,3,5 4,1j,6 1r,r,6 v,6,6 h,5,7 5,1,0 1,6,7 6,1,0 1,e,7 e,1,0 1,3,7 3\
    ,1,0 1,w,7 w,1,0 1,a,7 a,b,1 b,q,7 q,1,1 1,30,7 30,1,0 1,y,7 y,e,8 f,1o,8 1q,3,8 3,1c,7 1c,1e,9 1s,1n,1t 1p,3,1t\
     3,1a,29 1c,f,29 g,s,2m u,1,2m 2,b,8 g,v,7 w,2,7 7,23,7 23,1,0 1,t,7 t,29,a 29,4,1 4,f,a f,2,0 2,q,a q,4,b 5,8,b\
     a,2,b 4,m,b n,7,b 8,1,b 4,4,b 6,9,b b,2,b 4,4,b c,1,b 5,2,b 3,5,b 7,p,b r,3,c 4,6,c a,2,c 4,m,c n,7,c 8,2,c 3,2\
    ,c 3,2,c 4,1,c 2,5,c 9,2,c 4,3,c 6,1,c 8,4,c 5,1,c 8,h,c r,3,d 4,9,d a,3,d 4,m,d n,7,d 8,2,d 3,5,d 7,a,d b,3,d 4\
    ,3,d 5,1,d g,4,d 6,c,d j,7,d 8,3,e 4,8,e a,2,e 4,m,e n,7,e 8,2,e 3,5,e 7,9,e b,2,e 4,3,e a,3,e 7,2,e 3,5,e 7,i,e\
     s,2,f 3,6,f 9,3,f 4,4,f 7,2,f 3,1,f 2,2,f 5,2,f 5,3,f 6,c,f g,5,f 8,3,f 4,4,f 6,1,f 7,1,f f,l,f q,d,g e,3,g 4,n\
    ,g o,g,g i,9,g a,3,g 4,4,g b,2,g 3,3,g 5,1,g 3,4,g 6,a,g h,9,g 9,d,h e,3,h 4,n,h o,a,h b,5,h 7,9,h a,3,h 4,4,h b\
    ,2,h 8,2,h 3,4,h 6,a,h b,3,h f,d,i e,3,i 4,1f,i 1g,3,i 4,6,i a,g,i i,q,i r,3,j 4,i,j l,o,j p,9,j a,1,j 3,7,j a,1\
    ,j 5,6,j 7,1,j 2,8,j e,a,j c,3,j f,1m,k 1q,1,0 1,s,k 1t,2,l 3,1,l 2,5,l 6,o,l p,1,l 2,n,l p,5,l 6,1,l 2,7,l 8,a,\
    l c,4,l 10,20,m 21,10,m 14,13,m 14,10,m 11,f,m g,7,m 7,4,0 4,2,m 13,4g,n 4g,12,o 13,1,o 6,1,o 3,17,o 17,1,0 1,4,\
    o 4,74,p 74,21,q 22,4,q 6,7,q 8,1,q 2,4,q 6,15,q 16,4,q 6,x,q y,4,q 6,7,q 8,1,q 2,4,q 6,f,q g,1l,q 1m,4,q 6,1v,q\
     1x,w,q z,q,q w,2e,r 2g,6,r 8,hs,s hs,t,t w,23,u 23,3,0 3,b,u i,m,15 v,1,15 1,l,16 l,2,0 b,k,17 w,d,18 e,3,18 4,\
    2,18 e,2m,v 2o,a,v g,a,v g,2,w 2,2,0 2,1,w 1,1,0 1,k,w q,2h,w 2o,17,w 1c,1y,s 28,v,19 w,c,19 g,c,19 g,1,19 4,c,1\
    9 c,u,1a w,5,1a g,18,1j 1c,q,1j w,b,1j e,2,1j 2,w,v w,s,1h u,2,1h 2,1r,25 1s,t,25 v,b,25 h,a,25 g,e,25 g,v,1 28,\
    25,1p 26,1e,1p 1e,1s,1u 1s,1g,2k 1o,4,2k 4,1k,1v 1n,f,1v i,3,1v 3,1c,1w 1c,b,4 g,17,o 19,3,o 3,8,1u g,3,1 3,1,0 \
    1,d,1 d,1,0 1,7,1 7,4,0 4,1,1 1,6,0 6,1,1 1,3,0 3,2,1 2,1,0 6,12,2 12,5,3 5,1,4 1,1d,2 1d,5,3 5,4,2 4,5,3 5,d,2 \
    d,1,4 1,1y,2 1y,1,3 1,1s,1 1s,74,2 74,m,3 o,6,3 8,12,3 14,6,3 8,8,3 9,1,3 2,1,3 2,1,3 2,v,3 x,1h,3 1i,f,3 g,e,3 \
    g,6,3 7,j,3 l,3,3 4,9,3 a,c,0 c,2,1 2,2f,0 2g,b,0 b,1,2 3,b,0 b,1,2 1,f,0 g,d,2 g,x,0 1c,x,1 1c,12,0 12,1,3 1,3,\
    0 3,2,2 2,6,0 6,1,2 1,r,0 r,1,2 1,h,0 h,15,2 15,3,0 7,ii,0 j4,b,0 w,ps,0 ps,74,1g 74,hg,0 hi,w,0 x,2x,0 2x,2o,1k\
     2o,w,2 w,38,1i 3d,7,1i 7,12,o 13,1,o 6,1,o 3,1k,1l 1r,2,1l g,1,1l 1,n,q w,7,q 8,7,q 8,7,q 8,7,q 8,7,q 8,7,q 8,7\
    ,q 8,7,q 8,w,4 w,2m,0 3k,q,10 r,2h,10 2t,5y,10 6o,l,0 l,1,10 1,1,0 1,1,10 1,p,0 p,9,10 9,4,1 4,2,p 2,8,0 8,4,10 \
    4,4,0 5,2e,x 2g,2,1 2,2,0 2,3,x 3,1,0 1,2i,y 2i,2,0 2,3,y 8,17,z 18,2m,p 2n,g,0 g,w,z w,12,0 1b,1,0 1,g,y g,v,p \
    w,1s,0 1s,v,p v,29,0 29,1b,y 1b,1,0 1,2g,y 2g,4o,0 4o,534,10 534,1s,0 1s,g74,10 g74,wd,11 wg,1j,11 1s,1c,2a 1c,8\
    c,1x 8w,2o,4 2o,2g,2b 2o,y,0 y,2u,2 2u,3,0 3,1v,2 1x,2,2 3,1,2 2,8,2 t,e,2 e,19,1m 1c,a,0 g,1k,1s 1s,1y,1y 26,c,\
    1y i,w,a w,1a,1z 1a,1,0 1,1,1z 1,10,20 1b,1,20 1,t,p w,26,2c 27,1,0 1,a,2c e,2,2c 2,v,n w,1j,24 1s,e,24 g,a,24 c\
    ,4,24 4,w,n w,1v,26 2j,5,26 5,n,2d x,6,q 8,6,q 8,6,q f,7,q 8,7,q 8,17,2 17,1,0 1,9,2 9,1,3 1,4,2 4,2,0 6,28,r 28\
    ,1a,2d 1c,a,2d g,8mc,p 8mo,n,p r,1d,p 6k5,a6,10 a8,2y,10 40,7,2 j,5,5 a,q,6 r,5,6 6,1,6 2,2,6 3,2,6 3,a,6 a,37,7\
     3n,a3,7 a3,2,0 2,28,7 2a,1i,7 1p,1,7 x,g,7 g,g,1 g,a,0 g,e,1 e,2,4 2,z,0 10,j,0 k,4,0 8,5,7 6,3r,7 3t,1,0 2,w,0\
     w,q,2 q,6,0 6,q,2 q,b,0 b,a,y a,1,0 1,19,y 19,2,0 2,v,p y,6,p 8,6,p 8,6,p 8,3,p 6,7,0 8,7,0 h,5,0 7,c,1b d,q,1b\
     r,j,1b k,2,1b 3,f,1b h,e,1b 1c,3f,1b 3k,3,0 7,19,0 1c,9,0 9,27,3 28,d,0 g,1,3 1c,19,0 19,1,1 3n,t,21 w,1d,22 1s\
    ,1,1 1,r,0 v,10,12 19,3,12 3,r,13 w,17,3b 1c,u,1c v,1,1c 1,10,1n 14,e,1n 1k,28,14 28,1c,1d 1c,u,1e w,a,1e g,10,3\
    r 14,10,3r 14,14,2x 1c,1g,2u 1r,1,2u 1,b,4g c,f,4g g,7,4g 8,2,4g 3,b,4g c,f,4g g,7,4g 8,2,4g 5,1g,4o 1s,8n,31 8w\
    ,m,31 w,8,31 w,6,2 7,16,2 17,9,2 26,6,1f 8,1,1f 2,18,1f 19,2,1f 5,1,1f 3,1,1f 1,m,2e n,9,2e 9,w,39 w,v,38 13,9,3\
    8 1l,j,3j k,2,3j 7,5,3j 5,s,1r v,1,1r 1,q,23 v,1,23 1t,w,2p w,o,2o s,k,2o m,1a,2o 1a,4,1o 5,2,1o 7,8,1o 9,3,1o 4\
    ,t,1o v,3,1o 7,a,1o h,9,1o g,w,2f w,w,37 1s,13,33 17,c,33 l,1i,27 1l,7,27 7,m,2g o,8,2g 8,j,2h o,8,2h 8,i,3c p,4\
    ,3c g,7,3c 2f,21,2i 3k,1f,3l 1s,1f,3l 1m,6,3l 6,14,3z 1c,a,3z g,12,4j 15,t,4j 11,2,4j 5u,v,7 w,16,4b 17,3,4b 5,2\
    ,4b i,3,7 1m,4,7 4,14,42 1c,16,43 1s,q,4d 1s,s,48 1c,n,44 w,26,2l 2a,10,2l 19,1,2l 1,1v,2j 25,1,2j 3,p,2s w,a,2s\
     g,1h,2n 1i,i,2n q,13,32 1c,2o,2r 2p,k,j v,i,30 j,1b,30 31,7,3k 8,1,3k 2,4,3k 5,f,3k g,b,3k h,1n,3e 1s,a,3e g,4,\
    2y 5,8,2y a,2,2y 4,m,2y n,7,2y 8,2,2y 3,5,2y 6,1,1 1,9,2y b,2,2y 4,3,2y 5,1,2y 7,1,2y 6,7,2y 9,7,2y a,5,2y g,a,4\
    p b,1,4p 3,1,4p 2,12,4p 13,a,4p b,1,4p 3,1,4p 2,4,4p 5,a,4p b,2,4p a,2,4p v,2k,3q 2l,5,3q z,20,3f 28,a,3f 4w,1i,\
    3d 1k,12,3d 20,1x,35 28,a,35 g,d,w w,1m,2t 1s,a,2t g,k,n 1c,r,3h t,f,3h j,n,3h 5s,1o,3x 4g,2b,3g 2n,1,3g 1,7,49 \
    9,1,49 3,8,49 9,2,49 3,u,49 v,2,49 4,c,49 l,a,49 28,8,45 a,1a,45 1c,b,45 12,20,3w 28,2b,3v 2o,g,s g,1l,3a 1s,a,a\
     5c,y,4n 1c,a,4n g,9,3o a,19,3o 1a,e,3o o,t,3o w,w,3p y,m,3p n,e,3p 2f,7,3t 8,2,3t 3,18,3t 1b,1,3t 2,2,3t 3,9,3t\
     h,a,3t g,6,3y 7,2,3y 3,11,3y 12,2,3y 3,6,3y d,a,3y 8w,p,40 w,h,4h i,15,4h 18,t,4h 36,1,2a g,1e,f 1r,1,f 1,pm,1q\
     sg,33,1q 34,5,1q g,5g,1q 26o,2r,4c 34,uu,28 v4,32z,28 334,g7,3i 5q8,1m,4k 1ds,ft,2b g0,v,36 w,a,36 e,2,36 2,27,\
    4e 28,a,4e g,u,2v w,6,2v g,1y,2z 28,a,2z b,7,2z 8,l,2z q,j,2z cj,1m,4l 74,2j,41 5c,23,2q 27,1l,2q 1s,h,2q 29,1,3\
    s 1,1,3u 1,2,10 2,1,4a c,2,10 g,4qg,3s 4qo,lc,3s lc,d2,4a e7,1,4a 1,9,3s 6wg,4,y 5,7,y 8,2,y 3,1,y 1,7z,x 7z,3,y\
     i,1,x u,3,x 5,1,y f,4,y c,b0,3u 234,2z,2w 34,d,2w g,9,2w g,a,2w c,4,2w 4,4,0 31c,6y,0 74,c4,0 e8,1a,1 1c,n,1 w,\
    38,0 4w,6u,0 74,13,0 15,1q,0 1q,3,1 3,h,0 h,8,1 8,2,0 2,7,1 7,u,0 u,4,1 4,1p,0 2a,1y,3 5c,k,0 w,k,0 w,2f,0 2o,p,\
    0 4g,2d,0 2e,1z,0 20,2,0 4,1,0 3,2,0 4,4,0 5,c,0 d,1,0 2,7,0 8,1t,0 1u,4,0 6,8,0 9,7,0 8,s,0 t,4,0 5,5,0 6,1,0 4\
    ,7,0 8,9g,0 9i,84,0 86,1e,0 1e,i4,3m ij,5,3m 6,f,3m v3,v,2 11,6,2 63,7,1k 8,h,1k j,7,1k 8,2,1k 3,5,1k a,1q,4 2n,\
    1,4 35,19,46 1c,e,46 g,a,46 e,2,46 8y,v,4f 1c,1m,47 1r,1,47 cx,16,4i 74,17,4m 1b,1,4m dd,7,q 8,4,q 5,2,q 3,f,q g\
    ,5h,34 5j,g,34 1l,24,3n 28,a,3n e,2,3n lv,1w,0 40,1p,0 73,4,7 5,r,7 s,2,7 3,1,7 3,1,7 2,a,7 b,4,7 5,1,7 2,1,7 7,\
    1,7 5,1,7 2,1,7 2,1,7 2,3,7 4,2,7 3,1,7 3,1,7 2,1,7 2,1,7 2,1,7 2,1,7 2,2,7 3,1,7 3,4,7 5,7,7 8,4,7 5,4,7 5,1,7 \
    2,a,7 b,h,7 m,3,7 4,5,7 6,h,7 1x,2,7 7k,18,0 1c,2s,0 34,f,0 h,f,0 g,f,0 g,11,0 1b,4u,0 6e,q,0 q,1,x 1,2,0 f,18,0\
     1c,9,0 g,2,0 g,6,0 4g,rc,0 rg,h,0 k,d,0 g,3b,0 3f,2n,0 2t,c,0 g,1,0 g,c,0 g,1k,0 1s,a,0 g,14,0 1c,u,0 w,c,0 g,2\
    ,0 1s,9g,0 9s,e,0 g,d,0 g,a,0 f,1k,0 1r,f,0 h,b,0 h,9,0 g,43,0 44,2u,0 vg,wyo,10 wzk,37e,10 37k,66,10 68,4g2,10 \
    4gg,5rl,10 5s0,ha,10 2ds,f2,10 1kw,3t7,10 3tc,38g,10 fcfl,1,0 v,2o,0 68,6o,1
    """
}
